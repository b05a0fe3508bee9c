"""`phi3 bench`: its arithmetic, what it prints, what it refuses. Never how fast anything is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from phi3.bench import command, measure, plot, table
from phi3.bench.bounds import Cost, Machine, decode_bound, operand_of, prefill_bound
from phi3.bench.engines import PEERS, check_importable
from phi3.bench.plan import Run, make_plan
from phi3.bench.result import summarised
from phi3.errors import FileAccessError, InvalidArgumentError, MissingPackageError

ROOT = Path(__file__).resolve().parents[2]
PEAKS = {"read": 50.0, "product_f32": 500.0, "product_bf16": 1000.0, "product_int8": 2000.0}
PEAKS |= {"units_f32": 600.0, "units_bf16": 1200.0, "units_int8": 2400.0}
PHI35 = {  # Phi-3.5-mini in Q4_0: 18 bytes for 32 weights, float32 norms
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 96,
    "vocab_size": 32064,
    "tie_word_embeddings": False,
    "weight_bytes": 2_150_295_552,
    "embedding_bytes": 55_406_592,
    "kv_token_bytes": 393_216,
    "dtype": "q4_0",
    "compute_dtype": "mixed",
}


def run(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "phi3", "bench", "--pause", "0", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        **kwargs,
    )


# ---- Bounds -----------------------------------------------------------------------------------


def test_what_phi35_costs():
    cost = Cost.of(PHI35)
    assert cost.weight_bytes == 2_094_888_960
    rest = 3072 * 3072 + 3 * 3072 * 8192  # of a layer, beyond its keys and values
    assert cost.layer_operations == 2 * (32 * 3 * 3072 * 3072 + 31 * rest) == 7_077_888_000
    assert cost.head_operations == 2 * (32064 * 3072 + rest) == 366_870_528
    assert cost.kv_bytes == 393_216 and cost.operand == "int8"


def test_grouped_queries_and_tied_heads_cost_less():
    shape = {**PHI35, "num_key_value_heads": 8, "tie_word_embeddings": True}
    cost = Cost.of(shape)
    assert cost.weight_bytes == PHI35["weight_bytes"]
    qkv, rest = 3072 * (3072 + 2 * 8 * 96), 3072 * 3072 + 3 * 3072 * 8192
    assert cost.layer_operations == 2 * (32 * qkv + 31 * rest)


def test_decode_is_bound_by_what_it_reads():
    cost, machine = Cost.of(PHI35), Machine.of(PEAKS)
    assert decode_bound(cost, machine, 0, 1) == pytest.approx(50e9 / 2_094_888_960)  # 23.87
    at_depth = decode_bound(cost, machine, 4096, 1)
    assert at_depth == pytest.approx(50e9 / (2_094_888_960 + 4096 * 393_216))  # 13.50
    together = decode_bound(cost, machine, 100, 8)
    assert together == pytest.approx(8 * 50e9 / (2_094_888_960 + 8 * 100 * 393_216))  # 166


def test_prefill_is_bound_by_what_it_multiplies():
    cost, machine = Cost.of(PHI35), Machine.of(PEAKS)
    operations = 512 * 7_077_888_000 + 366_870_528
    assert prefill_bound(cost, machine, 512) == pytest.approx(512 * 2000e9 / operations)  # 283
    one = prefill_bound(cost, machine, 1)  # so short a prompt is bound by what it reads
    assert one == pytest.approx(50e9 / 2_094_888_960)


def test_many_sequences_are_bound_by_what_they_multiply():
    cost, machine = Cost.of(PHI35), Machine.of(PEAKS)
    assert decode_bound(cost, machine, 0, 10_000) == pytest.approx(2000e9 / 7_444_758_528)


@pytest.mark.parametrize(
    ("dtype", "compute_dtype", "operand"),
    [
        ("q4_0", "mixed", "int8"),
        ("q6_k", "mixed", "int8"),
        ("bfloat16", "mixed", "bfloat16"),
        ("float16", "mixed", "bfloat16"),
        ("float32", "mixed", "float32"),
        ("q4_0", "float32", "float32"),
    ],
)
def test_which_peak_counts(dtype, compute_dtype, operand):
    assert operand_of(dtype, compute_dtype) == operand
    cost = Cost.of({**PHI35, "dtype": dtype, "compute_dtype": compute_dtype})
    peak = {"int8": 2000e9, "bfloat16": 1000e9, "float32": 500e9}[operand]
    assert decode_bound(cost, Machine.of(PEAKS), 0, 10**6) == pytest.approx(peak / 7_444_758_528)


def test_no_bound_without_a_peak():
    without = {**PEAKS, "product_int8": 0.0}
    assert Machine.of(without).operations["int8"] == 2400e9
    without["units_int8"] = 0.0  # as on CUDA, where bfloat16 is multiplied instead
    assert Machine.of(without).operations["int8"] == 1000e9
    machine = Machine.of({**without, "product_bf16": 0.0, "units_bf16": 0.0})
    assert prefill_bound(Cost.of(PHI35), machine, 512) is None


# ---- The plan ---------------------------------------------------------------------------------


def test_a_depth_serves_the_prefill_of_that_length():
    runs, measures = make_plan([128, 1024], [0, 1024], 64, 1)
    assert runs == [Run(1, 64), Run(128, 0), Run(1025, 64)]
    assert [(m.title, m.run) for m in measures] == [
        ("prefill of 128", Run(128, 0)),
        ("prefill of 1024", Run(1025, 64)),
        ("decode, depth 0", Run(1, 64)),
        ("decode, depth 1024", Run(1025, 64)),
    ]


def test_sequences_that_decode_together():
    runs, measures = make_plan([], [512, 16], 10, 8)
    assert runs == [Run(17, 10), Run(17, 10, 8), Run(513, 10)]
    assert measures[-1].title == "decode, 8 together, depth 16"
    assert measures[-1].rate({"prompt_s": 1.0, "decode_s": 4.0}) == 8 * 10 / 4


def test_rates_and_depths():
    _, (prefill, decode) = make_plan([128], [99], 20, 1)
    seconds = {"prompt_s": 0.5, "decode_s": 4.0}
    assert prefill.rate(seconds) == 256 and decode.rate(seconds) == 5
    # The first decoded token looks back at 100 and itself, the last at 119 and itself.
    assert decode.mean_depth == sum(range(101, 121)) / 20


# ---- A whole bench ----------------------------------------------------------------------------

SMALL = ["--prefill", "8,32", "--depths", "0,24", "--new-tokens", "4", "--batch", "2"]


@pytest.fixture(scope="module")
def model(checkpoint):
    return checkpoint("phi3.5-mini")


@pytest.fixture(scope="module")
def result(model):
    answer = run(model, "--json", "--repeat", 2, "--threads", 1, *SMALL)
    assert answer.returncode == 0 and answer.stderr == ""
    return json.loads(answer.stdout)


def test_the_result_names_machine_and_model(result, model):
    own = result["engines"]["phi3"]
    assert result["cpu"] and result["threads"] == 1 and result["rounds"] == 2
    assert own["model"] == model.name and own["dtype"] == "float32"
    assert own["settings"] == "float32, float32 KV" and own["num_hidden_layers"] == 3
    rest = 192 * 192 + 3 * 192 * 320
    assert result["cost"]["layer_operations"] == 2 * (3 * 3 * 192 * 192 + 2 * rest)
    assert result["peaks"]["read"] > 0 and result["left_out"] == []


def test_every_measure_has_samples_and_a_median(result):
    measures = {row["measure"]: row for row in result["measures"]}
    speeds = ["prefill of 8", "prefill of 32", "decode, depth 0", "decode, depth 24"]
    speeds.append("decode, 2 together, depth 0")
    assert list(measures) == [
        *speeds,
        "load_s",
        "first_token_s",
        "peak_memory_bytes",
        "step_overhead_s",
    ]
    for row in measures.values():
        first, second = row["samples"]["phi3"]
        assert first > 0 and second > 0 and row["ratios"] == {}
        assert row["medians"] == {"phi3": pytest.approx((first + second) / 2)}
    for name in speeds:
        row = measures[name]
        first, second = (s / b for s, b in zip(row["samples"]["phi3"], row["bounds"], strict=True))
        assert row["of_bound"] == pytest.approx((first + second) / 2)
    assert measures["first_token_s"]["medians"]["phi3"] > measures["load_s"]["medians"]["phi3"]
    assert 5e6 < measures["peak_memory_bytes"]["medians"]["phi3"] < 1e9
    assert 0 < measures["step_overhead_s"]["medians"]["phi3"] < 0.1  # some ten us a layer


def test_bounds_are_those_of_the_peaks_right_after_the_run(model):
    one_run = ["--prefill", "24", "--depths", "24", "--new-tokens", 4]
    answer = run(model, "--json", "--repeat", 1, *one_run)
    result = json.loads(answer.stdout)
    cost, machine = Cost(**result["cost"]), Machine.of(result["peaks"])
    rows = {row["measure"]: row for row in result["measures"]}
    assert rows["prefill of 24"]["bounds"] == [pytest.approx(prefill_bound(cost, machine, 25))]
    deep = rows["decode, depth 24"]
    assert deep["mean_depth"] == 25 + 2.5
    assert deep["bound"] == pytest.approx(decode_bound(cost, machine, 27.5, 1))


def test_medians_ratios_and_shares():
    samples = {"phi3": [10.0, 30.0, 20.0], "llama.cpp": [5.0, 50.0, 10.0]}
    row = summarised({"samples": samples, "bounds": [20.0, 40.0, 80.0]})
    assert row["medians"] == {"phi3": 20.0, "llama.cpp": 10.0} and row["ratios"] == {"llama.cpp": 2}
    assert row["bound"] == 40.0 and row["of_bound"] == 0.5  # of 0.5, 0.75, 0.25
    assert summarised({"samples": samples, "bounds": []})["of_bound"] is None


def test_results_are_joined(result, tmp_path):
    files = [tmp_path / "1.json", tmp_path / "2.json"]
    for file in files:
        file.write_text(json.dumps(result))
    command = [sys.executable, str(ROOT / "tests/bench/join.py"), *map(str, files), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    both = json.loads(done.stdout)
    assert both["rounds"] == 4
    for one, two in zip(result["measures"], both["measures"], strict=True):
        assert two["samples"]["phi3"] == 2 * one["samples"]["phi3"]
        assert two["medians"] == one["medians"]


def test_the_table(result):
    lines = table.render(result).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1 and len(rows) == 2 + len(result["measures"])
    assert " %" in rows[2] and "/s" in rows[2] and "GiB" in rows[-2] and "per step" in rows[-1]
    assert any("in float32" in line for line in lines)


def test_a_table_with_another_engine(result):
    rows = [dict(row) for row in result["measures"]]
    for row in rows:
        row["medians"] = {"phi3": 30.0, "llama.cpp": 20.0}
        row["ratios"] = {"llama.cpp": 1.5}
    about = {"version": "1", "model": "m", "settings": "s"}
    both = {**result["engines"], "llama.cpp": about}
    shown = table.render({**result, "measures": rows, "engines": both})
    assert "llama.cpp 1: m, s." in shown
    assert shown.count("1.50 |") == len(rows) and shown.count("20.0 /s") == 5


def test_packed_weights_are_loaded_too(model, tmp_path):
    arguments = ["--prefill", 8, "--depths", 0, "--new-tokens", 2, "--repeat", 2, "--json"]
    answer = run(model, *arguments, "--compute-dtype", "mixed", "--packed-dir", tmp_path)
    assert answer.returncode == 0, answer.stderr
    rows = {row["measure"]: row for row in json.loads(answer.stdout)["measures"]}
    first, second = rows["packed_first_token_s"]["samples"]["phi3"]
    assert first > 0 and second > 0
    assert "from packed weights" in table.render(json.loads(answer.stdout))


def test_small_times_are_microseconds():
    assert table.amount(210e-6, "s") == "210 us" and table.amount(0.75, "s") == "0.75 s"


def test_what_is_too_long_is_left_out(model):
    answer = run(model, "--prefill", "8,3000", "--depths", 0, "--new-tokens", 2, "--repeat", 1)
    assert answer.returncode == 0 and "prefill of 8 " in answer.stdout
    assert answer.stderr == "longer than the model takes: prefill of 3000\n"
    answer = run(model, "--prefill", 3000, "--depths", 5000, "--new-tokens", 2, "--repeat", 1)
    assert answer.returncode == 1 and "no room" in answer.stderr


# ---- Pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", plot.SUFFIXES)
def test_pictures(result, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"speed{suffix}"
    plot.draw(result, str(file))
    start = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix]
    assert file.read_bytes().startswith(start) and file.stat().st_size < 200_000
    if suffix == ".svg":
        text = file.read_text()
        assert "what the machine allows" in text and "tokens before" in text and ">phi3<" in text


def test_the_command_draws(model, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "speed.svg"
    answer = run(model, "--repeat", 1, "--plot", file, *SMALL)
    assert answer.returncode == 0 and file.stat().st_size > 1000


def test_pictures_that_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(InvalidArgumentError, match=r"must end in \.svg, \.png, \.pdf"):
        plot.check("speed.gif")
    with pytest.raises(FileAccessError, match="no directory"):
        plot.check(str(tmp_path / "nowhere" / "speed.svg"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'phi3\[bench\]'"):
        plot.check("speed.svg")


# ---- Other engines ----------------------------------------------------------------------------


@pytest.mark.live
def test_beside_transformers(model):
    """A B A B in one call; each engine is measured as often."""
    arguments = ["--json", "--repeat", 2, "--prefill", 16, "--depths", 0, "--new-tokens", 4]
    answer = run(model, *arguments, "--compare", "transformers")
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert list(result["engines"]) == ["phi3", "transformers"]
    for row in result["measures"]:
        counts = {name: len(samples) for name, samples in row["samples"].items()}
        if row["measure"] == "step_overhead_s":  # only phi3 tells that of itself
            assert counts == {"phi3": 2, "transformers": 0}
            continue
        assert counts == {"phi3": 2, "transformers": 2}
        medians = row["medians"]
        assert row["ratios"]["transformers"] == medians["phi3"] / medians["transformers"]


def test_beside_llama_cpp(smollm2_path):
    pytest.importorskip("llama_cpp")
    arguments = ["--json", "--repeat", 1, "--prefill", 16, "--depths", 0, "--new-tokens", 4]
    answer = run(smollm2_path, *arguments, "--batch", 3, "--compare", "llama.cpp")
    assert answer.returncode == 0, answer.stderr
    rows = json.loads(answer.stdout)["measures"]
    assert all(row["medians"]["llama.cpp"] > 0 for row in rows)


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_engine_says_what_to_install(name, tmp_path):
    bare = tmp_path / "python"  # a Python that finds no packages
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(MissingPackageError, match="pip install") as refusal:
        check_importable(name, str(bare))
    assert PEERS[name].modules[0] in str(refusal.value) and f"--python {name}=" in str(
        refusal.value
    )


def test_an_engine_that_fails_is_one_line(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(50))
    answer = run(broken, "--repeat", 1)
    assert answer.returncode == 1 and answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("phi3: phi3 failed") and "broken.gguf" in line


# ---- Mistakes and interrupts ------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["--prefill", "0"], ["--prefill", "a"], ["--depths", "-1"], ["--depths", "1,,2"]]
    + [["--new-tokens", "0"], ["--repeat", "0"], ["--batch", "0"]],
    ids=" ".join,
)
def test_numbers_that_are_none(model, arguments, capsys):
    answer = run(model, *arguments)
    assert answer.returncode == 2 and "is not a whole number of at least" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "vllm"], "known are llama.cpp, openvino, transformers"),
        (["--python", "vllm=/usr/bin/python3"], "known are llama.cpp"),
        (["--python", "llama.cpp"], "ENGINE=PATH is asked for"),
        (["--compare", "llama.cpp", "--python", "llama.cpp=/no/python"], "does not run"),
        (["--launcher", "/no/such/program"], "No such file"),
        (["--plot", "speed.gif"], "must end in"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistakes_are_one_line(model, arguments, message):
    answer = run(model, *arguments)
    assert answer.returncode == 1 and answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("phi3: ") and message in line


def test_the_launcher_goes_before_every_engine(model, tmp_path):
    log = tmp_path / "log"
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\necho "$2" "$3" >>{log}\nexec "$@"\n')
    launcher.chmod(0o755)
    arguments = ["--prefill", 8, "--depths", 0, "--new-tokens", 2, "--repeat", 2]
    answer = run(model, "--launcher", launcher, *arguments)
    assert answer.returncode == 0
    started = [Path(line.split()[0]).name for line in log.read_text().splitlines()]
    assert started == ["run_engine.py"] * 2


def children(pid: int) -> list[str]:
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    )
    return listing.stdout.split()


def test_every_engine_begins_after_the_pause(monkeypatch):
    pauses = []
    answers = [{"loaded": {}}, {"done": {}}]
    monkeypatch.setattr(measure.time, "sleep", pauses.append)
    monkeypatch.setattr(measure, "messages", lambda *settings: iter(answers))
    engines = [measure.Engine(name, "model.gguf") for name in ("phi3", "llama.cpp")]
    settings = {"runs": [], "measures": [], "rounds": 2, "threads": 1, "launcher": []}
    measure.Bench(engines, **settings, pause=3).run(lambda done: None)
    assert pauses == [3] * 4


def test_ctrl_c_ends_the_engine_too(model):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "phi3",
            "bench",
            str(model),
            "--prefill",
            "1500",
            "--repeat",
            "1000",
            "--pause",
            "0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (engines := children(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert engines
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, "", "")
    for pid in engines:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


# ---- History ----------------------------------------------------------------------------------


def test_history_keeps_results_and_shows_changes(result, tmp_path):
    script, file = ROOT / "tests/bench/history.py", tmp_path / "history.jsonl"
    if not (ROOT / ".git").exists():
        pytest.skip("history names the commit")

    def history(action: str, text: str = "") -> str:
        command = [sys.executable, str(script), action, "--file", str(file)]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=True
        ).stdout

    faster = json.loads(json.dumps(result))
    for row in faster["measures"]:
        row["medians"]["phi3"] *= 1.5
    elsewhere = {**result, "cpu": "another"}
    for one in (result, faster, elsewhere):
        history("add", json.dumps(one))
    first = json.loads(file.read_text().splitlines()[0])
    assert first["cpu"] == result["cpu"] and first["commit"] and first["model"]
    median = result["measures"][0]["medians"]["phi3"]
    assert first["medians"]["prefill of 8"]["phi3"] == pytest.approx(median, rel=1e-3)
    shown = history("show")
    assert shown.count("+50 %") == len(result["measures"]) and "another" in shown


def test_the_kept_history_can_be_read():
    file = ROOT / "tests/bench/history.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines and all(line["cpu"] and line["commit"] and line["medians"] for line in lines)


def test_progress_needs_no_bar(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with command.progress(3) as tick:
        tick("done")
