"""fork(): a child of a process that has computed gets a clear error, not a hang."""

import subprocess
import sys

PROGRAM = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
import phi3
from phi3 import AutoModelForCausalLM, AutoTokenizer

def load():
    return AutoModelForCausalLM.from_pretrained({path!r})

model = load() if {loaded} else None
tokenizer = AutoTokenizer.from_pretrained({path!r})
if model is not None:
    model.generate([[5, 6, 7]], max_new_tokens=2, do_sample=False)

def child():
    signal.alarm(20)  # a hang is a failure
    assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"
    try:
        rows = (model or load()).generate([[5, 6, 7]], max_new_tokens=2, do_sample=False)
    except phi3.ForkedError as error:
        assert isinstance(error, RuntimeError) and "fork" in str(error), error
        return 3
    return 4 if len(rows[0]) == 5 else 5

pid = os.fork()
if pid == 0:
    status = 9
    try:
        status = child()
    finally:
        os._exit(status)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert len((model or load()).generate([[5, 6, 7]], max_new_tokens=2, do_sample=False)[0]) == 5
"""


def status_of_child(path, loaded: bool) -> int:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=str(path), loaded=loaded)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_a_child_of_a_process_that_computed_is_told(tiny_chat_path):
    assert status_of_child(tiny_chat_path, loaded=True) == 3


def test_a_child_may_load_after_the_fork(tiny_chat_path):
    assert status_of_child(tiny_chat_path, loaded=False) == 4
