/* tiny_tokenizer.h - a byte-level tokenizer for the model of tiny_model.h: an id for every character. */
#ifndef PHI3_TEST_TINY_TOKENIZER_H
#define PHI3_TEST_TINY_TOKENIZER_H

#include "tiny_model.h"

/* Ids: space 0, newline 1, '!' 2, ..., '~' 95. */
static inline void tiny_write_tokenizer(const char *path)
{
    FILE *file = fopen(path, "w");
    fputs("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":"
          "false},"
          "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":[],\"model\":{\"type\":\"BPE\","
          "\"merges\":[],\"vocab\":{\"\\u0120\":0,\"\\u010a\":1",
          file);
    for (int c = '!'; c <= '~'; c++)
        fprintf(file, ",\"\\u%04x\":%d", (unsigned)c, c - '!' + 2);
    fputs("}}}", file);
    fclose(file);
}

static inline phi3_tokenizer *tiny_tokenizer_load(void)
{
    char directory[] = "/tmp/phi3-tiny-XXXXXX", path[64];
    phi3_tokenizer *tokenizer = NULL;
    phi3_error error = {0};
    if (mkdtemp(directory) == NULL)
        return NULL;
    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    tiny_write_tokenizer(path);
    if (phi3_tokenizer_load(path, &tokenizer, &error) != PHI3_OK)
        fprintf(stderr, "%s\n", error.message);
    unlink(path);
    rmdir(directory);
    return tokenizer;
}

#endif
