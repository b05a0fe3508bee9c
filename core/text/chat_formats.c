/*
 * chat_formats.c - the chat templates that are rendered natively.
 *
 * In: a template's Jinja source. Out: the format it stands for. A source is recognised by its hash,
 * so that nothing is guessed: one that differs in anything but the spelling of its newlines is
 * unknown. The sources themselves are in tests/data/chat_templates, where the tests render them with
 * Jinja and compare.
 */
#include <string.h>

#include "chat.h"

/* ---- What the templates write ---------------------------------------------------------------- */

static const phi3_chat_format phi3_first = {
    .starts_with_bos = true,
    .turns = {{.role = "user", .before = "<|user|>\n", .after = "<|end|>\n<|assistant|>\n"},
              {.role = "assistant", .before = "", .after = "<|end|>\n"}},
};

static const phi3_chat_format phi3_with_system = {
    .starts_with_bos = true,
    .turns = {{.role = "system", .before = "<|system|>\n", .after = "<|end|>\n"},
              {.role = "user", .before = "<|user|>\n", .after = "<|end|>\n<|assistant|>\n"},
              {.role = "assistant", .before = "", .after = "<|end|>\n"}},
};

static const phi3_chat_format phi3_medium = {
    .turns = {{.role = "user", .before = "<|user|>\n", .after = "<|end|>\n<|assistant|>\n"},
              {.role = "assistant", .before = "", .after = "<|end|>\n"}},
};

static const phi3_chat_format phi3_mini = {
    .turns = {{.role = "system", .before = "<|system|>\n", .after = "<|end|>\n"},
              {.role = "user", .before = "<|user|>\n", .after = "<|end|>\n"},
              {.role = "assistant", .before = "<|assistant|>\n", .after = "<|end|>\n"}},
    .generation_prompt = "<|assistant|>\n",
    .ends_with_eos = true,
};

static const phi3_chat_format phi35_mini = {
    .turns =
        {{.role = "system", .before = "<|system|>\n", .after = "<|end|>\n", .skip_empty = true},
         {.role = "user", .before = "<|user|>\n", .after = "<|end|>\n"},
         {.role = "assistant", .before = "<|assistant|>\n", .after = "<|end|>\n"}},
    .generation_prompt = "<|assistant|>\n",
    .ends_with_eos = true,
};

static const phi3_chat_format phi4_first = {
    .turns = {{.role = "system", .before = "<|im_start|>system<|im_sep|>", .after = "<|im_end|>"},
              {.role = "user",
               .before = "<|im_start|>user<|im_sep|>",
               .after = "<|im_end|><|im_start|>assistant<|im_sep|>"},
              {.role = "assistant", .before = "", .after = "<|im_end|>"}},
};

static const phi3_chat_format phi4 = {
    .turns = {{.role = "system", .before = "<|im_start|>system<|im_sep|>", .after = "<|im_end|>"},
              {.role = "user", .before = "<|im_start|>user<|im_sep|>", .after = "<|im_end|>"},
              {.role = "assistant",
               .before = "<|im_start|>assistant<|im_sep|>",
               .after = "<|im_end|>"}},
    .generation_prompt = "<|im_start|>assistant<|im_sep|>",
};

static const phi3_chat_format phi4_mini = {
    .turns = {{.role = "system",
               .before = "<|",
               .after_role = "|>",
               .before_tools = "<|tool|>",
               .after_tools = "<|/tool|>",
               .after = "<|end|>"},
              {.before = "<|", .after_role = "|>", .after = "<|end|>"}},
    .generation_prompt = "<|assistant|>",
    .ends_with_eos = true,
};

static const phi3_chat_format chatml = {
    .turns = {{.before = "<|im_start|>", .after_role = "\n", .after = "<|im_end|>\n"}},
    .generation_prompt = "<|im_start|>assistant\n",
};

static const phi3_chat_format smollm2 = {
    .default_system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                      "Hugging Face<|im_end|>\n",
    .turns = {{.before = "<|im_start|>", .after_role = "\n", .after = "<|im_end|>\n"}},
    .generation_prompt = "<|im_start|>assistant\n",
};

/* ---- Recognising a source --------------------------------------------------------------------- */

/* FNV-1a of the source in its canonical spelling, the model files it comes in, and its name under
 * tests/data/chat_templates. */
static const struct {
    uint64_t hash;
    const phi3_chat_format *format;
} known_sources[] = {
    {0x4ebae769b67b72f1, &phi3_first},       /* Phi-3-mini of April 2024: phi-3-mini-first */
    {0xa89c7bc895d0549b, &phi3_with_system}, /* its variant with system: phi-3-mini-system */
    {0x6057775af4d6feb9, &phi3_medium},      /* Phi-3-medium 4k, 128k: phi-3-medium */
    {0xecebdb26677c663d, &phi3_mini},        /* Phi-3-mini 4k, 128k: phi-3-mini */
    {0xcf278cde387a54c8, &phi35_mini},       /* Phi-3.5-mini: phi-3.5-mini */
    {0xa0d463619fe96578, &phi4_first},       /* Phi-4 of December 2024: phi-4-first */
    {0x9acdd6b945e8e7f9, &phi4},             /* Phi-4: phi-4 */
    {0xd6a2d985b28ca308, &phi4_mini},        /* Phi-4-mini: phi-4-mini */
    {0x88bf4138d5c826f0, &chatml},           /* ChatML: chatml */
    {0x773d13e188afc917, &chatml},           /* ChatML of transformers' manual: chatml-guarded */
    {0x45ec583d4d25bc3a, &smollm2},          /* SmolLM2: smollm2 */
};

/* Bytes of the newline that text begins with; 0: none. Jinja reads all three kinds as "\n". */
static size_t newline_size(const char *text)
{
    return text[0] == '\n' ? 1 : text[0] != '\r' ? 0 : text[1] == '\n' ? 2 : 1;
}

/* Where the source ends for Jinja, which drops one newline at the end of a source, and one after a
 * block tag, by which every known source ends. */
static const char *source_end(const char *source)
{
    const char *end = source + strlen(source);
    for (int i = 0; i < 2; i++) {
        if (end - source >= 2 && end[-2] == '\r' && end[-1] == '\n')
            end -= 2;
        else if (end > source && newline_size(end - 1) > 0)
            end -= 1;
    }
    return end;
}

/* The hash of a source with every newline, and every backslash-n, spelled as the byte 10. Known
 * sources have newlines within string literals only and no backslash once they are spelled so:
 * a source that hashes to the same reads the same to Jinja. */
static uint64_t hash_source(const char *source)
{
    const uint64_t prime = 0x100000001b3;
    uint64_t hash = 0xcbf29ce484222325;
    const char *end = source_end(source);
    while (source < end) {
        size_t newline = source[0] == '\\' && source[1] == 'n' ? 2 : newline_size(source);
        uint8_t byte = newline > 0 ? '\n' : (uint8_t)*source;
        hash = (hash ^ byte) * prime;
        source += newline > 0 ? newline : 1;
    }
    return hash;
}

const phi3_chat_format *phi3_chat_find_format(const char *source)
{
    uint64_t hash = hash_source(source);
    for (size_t i = 0; i < sizeof known_sources / sizeof *known_sources; i++) {
        if (known_sources[i].hash == hash)
            return known_sources[i].format;
    }
    return NULL;
}
