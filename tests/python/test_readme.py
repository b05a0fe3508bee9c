"""What README shows is what the project has: its programs run and its listings are the files."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_first_block_is_the_two_commands():
    commands = [line.split("#")[0].strip() for line in blocks("")[0].splitlines()]
    assert commands == ["make chat", "make test"]


def test_the_python_program_runs_on_the_embedded_default(smollm2_path):
    program = blocks("python")[0].replace("microsoft/Phi-3.5-mini-instruct", str(smollm2_path))
    assert str(smollm2_path) in program
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "2x + 3 = 7" in run.stdout


def test_the_lua_program_is_the_one_that_is_tested():
    assert blocks("lua") == [(ROOT / "tests/openresty/program.lua").read_text()]


def test_the_c_program_is_the_example():
    assert blocks("c") == [(ROOT / "tests/c/example.c").read_text()]


def test_every_file_that_readme_names_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
