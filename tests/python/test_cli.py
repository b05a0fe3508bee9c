"""The command line, run as a user runs it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import phi3
import pytest
from phi3 import cli


def run(*arguments, stdin="", **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "phi3", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        **kwargs,
    )


# ---- Help and mistakes ------------------------------------------------------------------------


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for command in ("chat", "generate", "tokenize", "info", "bench"):
        assert command in text
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        assert "example: phi3" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(50))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    for arguments in (["info", broken], ["chat", "nobody/nothing"], ["generate", "x", "-m", "/no"]):
        result = run(*arguments, env=environment)
        assert result.returncode == 1 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("phi3: ")


def test_unknown_options_are_usage_errors():
    result = run("chat", "--nonsense")
    assert result.returncode == 2 and "usage" in result.stderr


def test_the_console_script_is_installed():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="phi3")
    assert script.load() is cli.main


# ---- Commands ---------------------------------------------------------------------------------


def test_info():
    result = run("info", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout) == phi3.info()
    assert "backends:" in run("info").stdout


def test_info_of_a_model(smollm2_path):
    report = json.loads(run("info", smollm2_path, "--json").stdout)
    assert report["model"]["num_hidden_layers"] == 30
    assert report["model"]["path"] == str(smollm2_path)


def test_tokenize(smollm2, smollm2_path):
    ids = smollm2[1].encode("Hello world")
    assert json.loads(run("tokenize", "Hello world", "-m", smollm2_path, "--ids").stdout) == ids
    result = run("tokenize", "-m", smollm2_path, stdin="Hello world")
    assert [int(line.split()[0]) for line in result.stdout.splitlines()] == ids
    assert "[0, 5)" in result.stdout and f"{len(ids)} tokens" in result.stderr


def test_generate_answers(smollm2_path):
    question = "What is the capital of France?"
    result = run("generate", question, "-m", smollm2_path, "--max-new-tokens", 16)
    assert result.returncode == 0 and "Paris" in result.stdout and result.stderr == ""
    piped = run("generate", "-m", smollm2_path, "--max-new-tokens", 16, stdin=question + "\n")
    assert piped.stdout == result.stdout


def test_generate_continues(smollm2, smollm2_path):
    model, tokenizer = smollm2
    arguments = ["-m", smollm2_path, "--raw", "--max-new-tokens", 8]
    result = run("generate", "The capital of France is", *arguments)
    ids = [tokenizer.encode("The capital of France is")]
    (row,) = model.generate(ids, do_sample=False, max_new_tokens=8)
    assert result.stdout == tokenizer.decode(row, skip_special_tokens=True) + "\n"


def test_generate_samples_by_seed(smollm2_path):
    arguments = ["generate", "Hi", "-m", smollm2_path, "--max-new-tokens", 8, "--temperature", 1.5]
    first, second = (run(*arguments, "--seed", seed).stdout for seed in (1, 2))
    assert first != second and run(*arguments, "--seed", 1).stdout == first


def test_generate_stops(smollm2_path):
    arguments = ["generate", "--raw", "Count: 1, 2, 3,", "-m", smollm2_path, "--stop", "7"]
    assert run(*arguments, "--max-new-tokens", 40).stdout.endswith("7\n")


def test_verbose_tells_speeds_on_stderr(smollm2_path):
    result = run("generate", "Hi", "-m", smollm2_path, "--max-new-tokens", 4, "-v")
    assert "tokens/s" in result.stderr and "tokens/s" not in result.stdout


# ---- Chatting ---------------------------------------------------------------------------------


def test_chat_takes_a_turn_from_every_line(smollm2_path):
    lines = "What is the capital of France?\n\nAnd of Italy?\n"
    result = run("chat", smollm2_path, "--max-new-tokens", 16, stdin=lines)
    assert result.returncode == 0 and result.stderr == ""
    first, second = result.stdout.splitlines()[0], result.stdout.splitlines()[-1]
    assert "Paris" in first and first != second


def test_chat_commands(smollm2_path):
    question = "What is the capital of France?"
    arguments = ["chat", smollm2_path, "--max-new-tokens", 8]
    once = run(*arguments, stdin=question).stdout
    again = run(*arguments, stdin=f"{question}\n/reset\n{question}\n/exit\nnever read\n").stdout
    assert again == 2 * once


def test_chat_begins_with_the_example(smollm2_path):
    result = run("chat", smollm2_path, "--example", "--max-new-tokens", 24)
    assert result.returncode == 0
    first, *rest = result.stdout.splitlines()
    assert first == "> What about solving an 2x + 3 = 7 equation?" and "".join(rest).strip()


def test_chat_without_input_ends_well(smollm2_path):
    result = run("chat", smollm2_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_system_message_changes_the_prompt(smollm2_path):
    arguments = ["generate", "Who are you?", "-m", smollm2_path, "--max-new-tokens", 12]
    plain = run(*arguments).stdout
    assert run(*arguments, "--system", "You are a pirate. Say arrr.").stdout != plain


def test_a_closed_pipe_is_quiet(smollm2_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "phi3", "generate", "--raw", "Once", "-m", str(smollm2_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(4)
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(timeout=60) == 1 and error == b""


class Terminal:
    """`phi3 chat` on a terminal of its own."""

    def __init__(self, *arguments):
        self.leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "phi3", "chat", *map(str, arguments)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What is written up to and with `text`."""
        seen = ""
        end = time.monotonic() + seconds
        while text not in seen:
            ready, _, _ = select.select([self.leader], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{text!r} did not come, only {seen!r}"
            try:
                seen += os.read(self.leader, 4096).decode(errors="replace")
            except OSError as error:  # the other side is closed
                raise AssertionError(f"{text!r} did not come, only {seen!r}") from error
        return seen

    def write(self, text: str) -> None:
        os.write(self.leader, text.encode())


def test_on_a_terminal_ctrl_c_stops_the_answer_only(smollm2_path):
    terminal = Terminal(smollm2_path, "--max-new-tokens", 5000)
    try:
        terminal.wait_for("> ")
        terminal.write("Tell me a very long story about a dragon, in twenty chapters.\n")
        terminal.wait_for("the")
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.wait_for("> ", 5)
        terminal.write("/reset\n")
        terminal.wait_for("> ", 5)
        terminal.write("What is the capital of France?\n")
        terminal.wait_for("Paris")
        terminal.wait_for("> ")
        terminal.write("\x04")
        assert terminal.process.wait(timeout=20) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.leader)
