/* A chat in the terminal.  example [MODEL]   MODEL: a directory, a .gguf file or a name */
#define _POSIX_C_SOURCE 200809L
#include <phi3.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
#define TRY(call) do { if ((call) != PHI3_OK) { fprintf(stderr, "%s\n", error.message); return 1; } } while (0)
/* clang-format on */

int main(int argc, char **argv)
{
    phi3_error error;
    phi3_tokenizer *tokenizer;
    phi3_model *model;
    phi3_cache *cache; /* what the model has read: a turn computes only what is new */
    phi3_stream_decoder *decoder;
    char *path, *text, line[4096];
    TRY(phi3_resolve(argc > 1 ? argv[1] : "smollm2-135m", NULL, &path, &error));
    TRY(phi3_tokenizer_load(path, &tokenizer, &error));
    TRY(phi3_model_load(path, NULL, &model, &error));
    TRY(phi3_cache_create(model, &cache, &error));
    TRY(phi3_stream_decoder_create(tokenizer, true, &decoder, &error));
    phi3_generation_config config = phi3_model_generation_config(model);
    config.max_new_tokens = 500;

    phi3_message chat[64]; /* 32 turns, kept until the program ends */
    for (size_t n = 0; n + 2 <= 64 && fgets(line, sizeof line, stdin); n += 2) {
        line[strcspn(line, "\n")] = '\0';
        chat[n] = (phi3_message){.role = "user", .content = strdup(line)};
        phi3_chat_options options = {.add_generation_prompt = true};
        phi3_encoding prompt;
        phi3_generation *generation;
        size_t size;
        TRY(phi3_chat_render(tokenizer, chat, n + 1, &options, &text, &size, &error));
        TRY(phi3_tokenizer_encode(tokenizer, text, size, NULL, &prompt, &error));
        phi3_prompt start = {.ids = prompt.ids, .count = prompt.count, .cache = cache};
        TRY(phi3_generation_create(model, NULL, &config, NULL, &start, 1, &generation, &error));
        phi3_free(text);

        const char *piece;
        size_t length;
        FILE *answer = open_memstream(&text, &size);
        for (bool done = false; !done;) {
            int32_t token;
            TRY(phi3_generation_step(generation, NULL, &token, &done, &error));
            TRY(phi3_stream_decoder_put(decoder, token, &piece, &length, &error));
            fputs(piece, answer);
            fputs(piece, stdout);
            fflush(stdout);
        }
        TRY(phi3_stream_decoder_end(decoder, &piece, &length, &error));
        fputs(piece, answer);
        puts(piece);
        fclose(answer);
        chat[n + 1] = (phi3_message){.role = "assistant", .content = text};
        phi3_generation_free(generation);
        phi3_encoding_free(&prompt);
    }
    phi3_stream_decoder_free(decoder);
    phi3_cache_free(cache);
    phi3_model_free(model);
    phi3_tokenizer_free(tokenizer);
    phi3_free(path);
    return 0;
}
