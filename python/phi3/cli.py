"""The command line: `phi3 chat|generate|tokenize|quantize|info|bench`, or `python -m phi3 ...`.

Answers go to standard output, everything else to standard error. An error is one line and status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from typing import Any

from .errors import Error
from .hub import DEFAULT_MODEL

EXAMPLE = [
    {"role": "system", "content": "You are a helpful AI assistant."},
    {
        "role": "user",
        "content": "Can you provide ways to eat combinations of bananas and dragonfruits?",
    },
    {
        "role": "assistant",
        "content": "Sure! Here are some ways to eat bananas and dragonfruits together: "
        "1. ... 2. ...",
    },
    {"role": "user", "content": "What about solving an 2x + 3 = 7 equation?"},
]

CHAT_HELP = "Ctrl-C stops an answer, /reset starts over, /exit or Ctrl-D ends."

MODEL_HELP = (
    "a directory, a GGUF file, smollm2-135m (the embedded default), ollama://NAME[:TAG], or the "
    "name of a Hugging Face repository"
)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line and returns the status to exit with."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        format="%(message)s",
        level=logging.INFO if options.verbose else logging.ERROR,
    )
    try:
        options.run(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (Error, OSError, UnicodeError) as error:
        print(f"phi3: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


# ---- Commands -----------------------------------------------------------------------------------


def chat(options: argparse.Namespace) -> None:
    """Talks: on a terminal until Ctrl-D, else one turn for each line of the input."""
    conversation = Conversation(options)
    interactive = sys.stdin.isatty()
    if options.example:
        print(f"> {EXAMPLE[-1]['content']}", flush=True)
        conversation.messages = [dict(message) for message in EXAMPLE[:-1]]
        conversation.answer(EXAMPLE[-1]["content"])
    if interactive:
        print(CHAT_HELP, file=sys.stderr)
    for line in _lines(interactive):
        if line == "/exit":
            break
        if line == "/reset":
            conversation.reset()
        elif interactive and line.startswith("/"):
            print(CHAT_HELP, file=sys.stderr)
        elif line:
            conversation.answer(line)


def generate(options: argparse.Namespace) -> None:
    """Answers one prompt, or continues it as plain text."""
    prompt = options.prompt if options.prompt is not None else sys.stdin.read()
    conversation = Conversation(options)
    as_chat = options.chat
    if as_chat is None:
        as_chat = conversation.pipe.tokenizer.chat_template is not None
    if as_chat:
        conversation.answer(prompt.strip())
    else:
        conversation.continue_text(prompt)


def tokenize(options: argparse.Namespace) -> None:
    """Shows the tokens of a text: id, spelling, and the characters they stand for."""
    from .tokenization import AutoTokenizer

    text = options.text if options.text is not None else sys.stdin.read()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    encoding = tokenizer(text, return_offsets_mapping=True)
    ids = encoding["input_ids"]
    if options.ids:
        print(json.dumps(ids))
        return
    for token_id, (start, end) in zip(ids, encoding["offset_mapping"], strict=True):
        spelling = tokenizer.convert_ids_to_tokens(token_id)
        print(f"{token_id:7}  {json.dumps(spelling, ensure_ascii=False)}  [{start}, {end})")
    print(f"{len(ids)} tokens", file=sys.stderr)


def quantize(options: argparse.Namespace) -> None:
    """Writes a model as a GGUF file."""
    from .log import logger
    from .saving import quantize as write

    logger.setLevel(logging.WARNING)  # of accuracy that is lost
    write(
        options.model,
        options.out,
        options.type,
        overwrite=options.force,
        n_threads=options.threads,
    )
    size = os.path.getsize(options.out) / 1e6
    print(f"{options.out}: {options.type}, {size:,.1f} MB", file=sys.stderr)


def info(options: argparse.Namespace) -> None:
    """Shows the installation and, if one is named, a model."""
    from .system import info as installation

    report: dict[str, Any] = installation()
    if options.model is not None:
        model = _load(options)
        report["model"] = {
            "path": model.name_or_path,
            "device": str(model.device),
            **{key: value for key, value in model.core.config.items() if "factor" not in key},
        }
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)


def bench(options: argparse.Namespace) -> None:
    """Measures speed, memory and what the machine would allow; compares with other engines."""
    from .bench import command

    command.run(options)


def _print_report(report: dict[str, Any], indent: str = "") -> None:
    for key, value in report.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_report(value, indent + "  ")
        elif key == "backends":
            print(f"{indent}{key}:")
            for backend in value:
                state = "available" if backend["available"] else "not available"
                print(f"{indent}  {backend['name']}: {state}: {backend['detail']}")
        else:
            shown = f"{value:.2f}" if isinstance(value, float) and value > 0.01 else value
            print(f"{indent}{key}: {shown}")


# ---- Talking ------------------------------------------------------------------------------------


def _lines(interactive: bool) -> Any:
    """The user's lines, without white space around them."""
    if not interactive:
        yield from (line.strip() for line in sys.stdin)
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() then edits lines and remembers them)
    while True:
        try:
            yield input("> ").strip()
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return


class Conversation:
    """A model, what has been said so far, and how answers are made."""

    def __init__(self, options: argparse.Namespace) -> None:
        from .pipelines import pipeline
        from .random import manual_seed
        from .tokenization import AutoTokenizer

        self.options = options
        model = _load(options)
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        self.pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
        self.settings = _settings(options)
        if options.seed is not None:
            manual_seed(options.seed)
        self.reset()

    def reset(self) -> None:
        system = self.options.system
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self.pipe.reset()

    def answer(self, text: str) -> None:
        """Prints the model's answer as it comes and remembers it. Ctrl-C cuts it short."""
        self.messages.append({"role": "user", "content": text})
        said = self._stream(self.messages)
        self.messages.append({"role": "assistant", "content": said})

    def continue_text(self, text: str) -> None:
        print(text, end="", flush=True)
        self._stream(text)

    def _stream(self, prompt: Any) -> str:
        printer = Printer(self.pipe.tokenizer)
        try:
            (record,) = self.pipe(prompt, streamer=printer, output_timings=True, **self.settings)
            if self.options.verbose:
                print(_speeds(record["timings"]), file=sys.stderr)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            printer.end()
        return printer.text


class Printer:
    """A streamer that prints every character as soon as it is complete."""

    def __init__(self, tokenizer: Any) -> None:
        from ._phi3 import StreamDecoder

        self.decoder = StreamDecoder(tokenizer.core, skip_special_tokens=True)
        self.text = ""
        self.is_prompt = True

    def put(self, value: Any) -> None:
        if not self.is_prompt:
            self._print(self.decoder.put(value[0]))
        self.is_prompt = False

    def end(self) -> None:
        self._print(self.decoder.end())
        print(flush=True)

    def _print(self, text: str) -> None:
        self.text += text
        print(text, end="", flush=True)


def _speeds(timings: dict[str, Any]) -> str:
    reused = f", {timings['reused_tokens']} of them known" if timings["reused_tokens"] else ""
    return (
        f"prompt: {timings['prompt_tokens']} tokens{reused}, {timings['prompt_seconds']:.2f} s, "
        f"{timings['prompt_tokens_per_second']:.1f} tokens/s; "
        f"answer: {timings['new_tokens']} tokens, {timings['decode_seconds']:.2f} s, "
        f"{timings['decode_tokens_per_second']:.1f} tokens/s; "
        f"first token after {timings['first_token_seconds']:.2f} s"
    )


def _load(options: argparse.Namespace) -> Any:
    from .modeling import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        options.model,
        device_map=options.device,
        max_memory=options.max_memory,
        compute_dtype=options.compute_dtype,
        kv_cache_dtype=options.kv_cache_dtype,
        n_threads=options.threads,
    )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The generation settings that the options ask for."""
    settings: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, "do_sample": False}
    if options.stop:
        settings["stop_sequence"] = options.stop
    if options.temperature > 0:
        settings |= {"do_sample": True, "temperature": options.temperature}
        settings |= {"top_k": options.top_k, "top_p": options.top_p}
    return settings


# ---- Options ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phi3",
        description="Phi-3.5-mini and its family on this machine.",
        epilog="`phi3 COMMAND --help` tells more. Models are found by name: " + MODEL_HELP + ".",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_chat(commands)
    _add_generate(commands)
    _add_tokenize(commands)
    _add_quantize(commands)
    _add_info(commands)
    _add_bench(commands)
    return parser


def _add_command(commands: Any, run: Any, summary: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        run.__name__,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("-v", "--verbose", action="store_true", help="tell speeds and more")
    return parser


def _add_model(parser: argparse.ArgumentParser, positional: bool, default: Any) -> None:
    if positional:
        parser.add_argument("model", nargs="?", default=default, metavar="MODEL", help=MODEL_HELP)
    else:
        parser.add_argument("-m", "--model", default=default, metavar="MODEL", help=MODEL_HELP)


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--device", default="auto", help="auto, cpu, reference, cuda or cuda:N")
    group.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="what a device may hold: 6GiB, or 0=6GiB,cpu=30GiB; the rest goes to the CPU",
    )
    group.add_argument(
        "--compute-dtype",
        choices=["auto", "mixed", "float32"],
        default="auto",
        help="float32: exact; mixed: fast; auto: exact for small models",
    )
    group.add_argument(
        "--kv-cache-dtype", default="auto", metavar="DTYPE", help="float32, float16, bfloat16, int8"
    )
    group.add_argument("--threads", type=int, default=0, help="0: one for each physical core")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("generation")
    group.add_argument("--max-new-tokens", type=int, default=500, metavar="N", help="length limit")
    group.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0: the likeliest token always"
    )
    group.add_argument("--top-k", type=int, default=50, metavar="K", help="0: off")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P", help="1: off")
    group.add_argument("--seed", type=int, metavar="N", help="draw the same tokens every time")
    group.add_argument("--stop", action="append", metavar="TEXT", help="end there; repeatable")
    group.add_argument("--system", metavar="TEXT", help="a system message to start the chat with")


def _add_chat(commands: Any) -> None:
    parser = _add_command(
        commands, chat, "talk with a model", "phi3 chat ollama://phi3.5 --system 'Be brief.'"
    )
    _add_model(parser, True, DEFAULT_MODEL)
    parser.add_argument("--example", action="store_true", help="begin with an example conversation")
    _add_settings(parser)
    _add_running(parser)


def _add_generate(commands: Any) -> None:
    parser = _add_command(
        commands,
        generate,
        "answer one prompt",
        "phi3 generate 'What is the capital of France?' --max-new-tokens 50",
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="without it: standard input")
    _add_model(parser, False, DEFAULT_MODEL)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--chat", action="store_true", default=None, help="as a message, if the model chats"
    )
    kind.add_argument(
        "--raw", dest="chat", action="store_false", help="as plain text to be continued"
    )
    _add_settings(parser)
    _add_running(parser)


def _add_tokenize(commands: Any) -> None:
    parser = _add_command(
        commands, tokenize, "show the tokens of a text", "phi3 tokenize 'Hello world'"
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", help="without it: standard input")
    _add_model(parser, False, DEFAULT_MODEL)
    parser.add_argument("--ids", action="store_true", help="only the ids, as JSON")


def _add_quantize(commands: Any) -> None:
    parser = _add_command(
        commands,
        quantize,
        "write a model as a GGUF file, its weights rounded",
        "phi3 quantize ./Phi-3.5-mini-instruct phi3.5-q4_k_m.gguf --type q4_k_m",
    )
    parser.add_argument("model", metavar="IN", help=MODEL_HELP)
    parser.add_argument("out", metavar="OUT.gguf", help="the file to write")
    parser.add_argument(
        "--type",
        default="q4_k_m",
        metavar="TYPE",
        help="q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k_s|m|l, q4_k_s|m, q5_k_s|m, q6_k, iq4_nl, "
        "iq4_xs, f16, bf16 or f32",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each physical core")


def _add_info(commands: Any) -> None:
    parser = _add_command(
        commands, info, "show the installation, and a model", "phi3 info smollm2-135m"
    )
    _add_model(parser, True, None)
    parser.add_argument("--json", action="store_true", help="as JSON")
    _add_running(parser)


def _add_bench(commands: Any) -> None:
    from .bench.command import add_options

    parser = _add_command(
        commands,
        bench,
        "measure speed and memory",
        "phi3 bench MODEL.gguf --compare llama.cpp --prefill 512 --depths 0,4096 --plot speed.svg",
    )
    _add_model(parser, True, DEFAULT_MODEL)
    add_options(parser)
    _add_running(parser)
