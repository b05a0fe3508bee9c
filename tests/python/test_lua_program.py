"""The same program in Lua and in Python prints the same, byte for byte.

The Lua modules are those of a build (`cmake --build build`), or of $PHI3_TEST_LUA_DIR.
"""

import os
import shutil
import subprocess
from pathlib import Path

import phi3
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = Path(os.environ.get("PHI3_TEST_LUA_DIR", ROOT / "build" / "lua"))

MESSAGES = [
    {"role": "system", "content": "You are a helpful AI assistant."},
    {
        "role": "user",
        "content": "Can you provide ways to eat combinations of bananas and dragonfruits?",
    },
    {
        "role": "assistant",
        "content": "Sure! Here are some ways to eat bananas and dragonfruits together: 1. Banana and "
        "dragonfruit smoothie. 2. Banana and dragonfruit salad.",
    },
    {"role": "user", "content": "What about solving an 2x + 3 = 7 equation?"},
]
ARGUMENTS = {
    "max_new_tokens": 500,
    "return_full_text": False,
    "temperature": 0.0,
    "do_sample": False,
}

PROGRAM = """
local phi3 = require "phi3"
phi3.manual_seed(0)
local model = assert(phi3.AutoModelForCausalLM.from_pretrained("smollm2-135m", {device_map = "cpu"}))
local tokenizer = assert(phi3.AutoTokenizer.from_pretrained("smollm2-135m"))
local messages = {MESSAGES}
local generation_args = {
  max_new_tokens = 500, return_full_text = false, temperature = 0.0, do_sample = false,
}
local pipe = phi3.pipeline("text-generation", {model = model, tokenizer = tokenizer})
local output = assert(pipe(messages, generation_args))
print(output[1].generated_text)
for piece in pipe:stream(messages, generation_args) do io.write(piece) end
print()
print(assert(pipe("Once", {max_new_tokens = 30}))[1].generated_text)
"""


def lua_table(messages: list[dict[str, str]]) -> str:
    rows = [f"{{role = [[{m['role']}]], content = [[{m['content']}]]}}" for m in messages]
    return ", ".join(rows)


@pytest.fixture(scope="module")
def expected(smollm2) -> str:
    """What the Python program prints."""
    phi3.random.manual_seed(0)
    pipe = phi3.pipeline("text-generation", model=smollm2[0], tokenizer=smollm2[1])
    answer = pipe(MESSAGES, **ARGUMENTS)[0]["generated_text"]
    streamed = "".join(pipe.stream(MESSAGES, **ARGUMENTS))
    sampled = pipe("Once", max_new_tokens=30)[0]["generated_text"]
    return f"{answer}\n{streamed}\n{sampled}\n"


@pytest.mark.parametrize(("interpreter", "version"), [("lua5.4", "5.4"), ("luajit", "5.1")])
def test_the_lua_program_prints_what_the_python_one_prints(
    expected, smollm2_path, interpreter, version
):
    module = MODULES / version / "phi3" / "core.so"
    if "PHI3_TEST_LUA_DIR" not in os.environ:
        if shutil.which(interpreter) is None:
            pytest.skip(f"{interpreter} is not installed")
        if not module.exists():
            pytest.skip(f"{module} has not been built")
    environment = {
        **os.environ,
        "LUA_PATH": f"{ROOT}/lua/?.lua;;",
        "LUA_CPATH": f"{MODULES}/{version}/?.so;;",
        "PHI3_MODEL_PATH": str(smollm2_path.parent),
    }
    program = PROGRAM.replace("MESSAGES", lua_table(MESSAGES))
    done = subprocess.run(
        [interpreter, "-e", program], env=environment, capture_output=True, check=False
    )
    assert done.stdout.decode() == expected, done.stderr.decode()
