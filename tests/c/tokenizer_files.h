/*
 * tokenizer_files.h - tiny tokenizers written in C: a SentencePiece-style one with byte tokens, as
 * Phi-3.5's is, and a byte-level one, as Phi-4's is.
 */
#ifndef PHI3_TEST_TOKENIZER_FILES_H
#define PHI3_TEST_TOKENIZER_FILES_H

#include "model_files.h"

#define MARK "\xE2\x96\x81" /* U+2581, SentencePiece's space */

static inline void put_text(buffer *to, const char *text)
{
    put(to, text, strlen(text));
}

static inline void put_number(buffer *to, unsigned value, const char *format)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    put_text(to, text);
}

/* "<0x00>": 3, ..., "<0xFF>": 258, */
static inline void put_byte_tokens(buffer *to)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        put_number(to, byte, "\"<0x%02X>\":");
        put_number(to, byte + 3, "%u,");
    }
}

#define SENTENCE_ADDED                                                                            \
    "[{\"id\":0,\"content\":\"<unk>\",\"special\":true,\"normalized\":false},"                    \
    "{\"id\":1,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"                       \
    "{\"id\":2,\"content\":\"</s>\",\"special\":false,\"normalized\":false,\"rstrip\":true},"     \
    "{\"id\":270,\"content\":\"<|end|>\",\"special\":true,\"normalized\":false,\"rstrip\":true}," \
    "{\"id\":271,\"content\":\"<|end|><|end|>\",\"special\":true,\"normalized\":false}]"
#define SENTENCE_NORMALIZER                                                                    \
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" MARK "\"}," \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"}]}"
#define SENTENCE_DECODER                                                                         \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK \
    "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"                    \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
#define BOS_TEMPLATE                                                                    \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}," \
    "{\"Sequence\":{\"id\":\"A\"}}],"                                                   \
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1]}}}"

/* Ids: a 260, b 261, ab 262, MARK 259, MARK a 263, MARK ab 264, MARK MARK 265. */
static inline buffer sentence_tokenizer(void)
{
    buffer json = {0};
    put_text(&json, "{\"added_tokens\":" SENTENCE_ADDED ",\"normalizer\":" SENTENCE_NORMALIZER
                    ",\"pre_tokenizer\":null,\"post_processor\":" BOS_TEMPLATE
                    ",\"decoder\":" SENTENCE_DECODER
                    ",\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
                    "\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,");
    put_byte_tokens(&json);
    put_text(&json, "\"" MARK "\":259,\"a\":260,\"b\":261,\"ab\":262,\"" MARK "a\":263,\"" MARK
                    "ab\":264,\"" MARK MARK "\":265},\"merges\":[\"a b\",[\"" MARK "\",\"ab\"],"
                    "[\"" MARK "\",\"a\"],[\"" MARK "\",\"" MARK "\"]]}}");
    return json;
}

/* Ids: bytes by their number; "ab" 256, "\xC4\xA0" "a" (" a") 257, "<|x|>" 258. `pre_tokenizer` is
 * JSON. */
static inline buffer byte_tokenizer(const char *pre_tokenizer)
{
    buffer json = {0};
    put_text(&json, "{\"added_tokens\":[{\"id\":258,\"content\":\"<|x|>\",\"special\":true}],"
                    "\"pre_tokenizer\":");
    put_text(&json, pre_tokenizer);
    put_text(&json, ",\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
                    "\"vocab\":{");
    unsigned next = 0x100; /* the alphabet of byte-level BPE */
    for (unsigned byte = 0; byte < 256; byte++) {
        bool prints = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        put_number(&json, prints ? byte : next++, "\"\\u%04x\":");
        put_number(&json, byte, "%u,");
    }
    put_text(&json, "\"ab\":256,\"\\u0120a\":257},\"merges\":[\"a b\",\"\\u0120 a\"]}}");
    return json;
}

#endif
