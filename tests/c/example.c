/* A chat in the terminal:  example [MODEL]   MODEL: a directory, a .gguf file or a name */
#define _POSIX_C_SOURCE 200809L

#include <phi3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static phi3_error error;

static void check(phi3_status status)
{
    if (status != PHI3_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
}

/* Prints the answer as it comes, and returns it. */
static char *answer(phi3_generation *generation, phi3_stream_decoder *decoder)
{
    char *text;
    const char *piece;
    size_t text_size, size;
    FILE *whole = open_memstream(&text, &text_size);
    for (bool done = false; !done;) {
        int32_t token;
        check(phi3_generation_step(generation, NULL, &token, &done, &error));
        check(phi3_stream_decoder_put(decoder, token, &piece, &size, &error));
        fputs(piece, whole);
        fputs(piece, stdout);
        fflush(stdout);
    }
    check(phi3_stream_decoder_end(decoder, &piece, &size, &error));
    fputs(piece, whole);
    puts(piece);
    fclose(whole);
    return text;
}

int main(int argc, char **argv)
{
    char *path, line[4096];
    phi3_tokenizer *tokenizer;
    phi3_model *model;
    phi3_cache *cache; /* what the model has read: a turn computes only what is new */
    phi3_stream_decoder *decoder;
    check(phi3_resolve(argc > 1 ? argv[1] : "smollm2-135m", NULL, &path, &error));
    check(phi3_tokenizer_load(path, &tokenizer, &error));
    check(phi3_model_load(path, NULL, &model, &error));
    check(phi3_cache_create(model, &cache, &error));
    check(phi3_stream_decoder_create(tokenizer, true, &decoder, &error));
    phi3_generation_config config = phi3_model_generation_config(model);
    config.max_new_tokens = 500;
    config.do_sample = false;

    phi3_message messages[64];
    phi3_chat_options options = {.add_generation_prompt = true};
    size_t count = 0;
    while (count + 2 <= 64 && fgets(line, sizeof line, stdin)) {
        char *text;
        size_t size;
        phi3_encoding prompt;
        phi3_generation *generation;
        line[strcspn(line, "\n")] = '\0';
        messages[count++] = (phi3_message){.role = "user", .content = strdup(line)};
        check(phi3_chat_render(tokenizer, messages, count, &options, &text, &size, &error));
        check(phi3_tokenizer_encode(tokenizer, text, size, NULL, &prompt, &error));
        phi3_prompt from = {.ids = prompt.ids, .count = prompt.count, .cache = cache};
        check(phi3_generation_create(model, NULL, &config, NULL, &from, 1, &generation, &error));
        messages[count++] =
            (phi3_message){.role = "assistant", .content = answer(generation, decoder)};
        phi3_generation_free(generation);
        phi3_encoding_free(&prompt);
        phi3_free(text);
    }

    while (count > 0)
        free((char *)messages[--count].content);
    phi3_stream_decoder_free(decoder);
    phi3_cache_free(cache);
    phi3_model_free(model);
    phi3_tokenizer_free(tokenizer);
    phi3_free(path);
    return 0;
}
