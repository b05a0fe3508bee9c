/*
 * test_tokenizer.c - the tokenizer and the stream decoder on tiny vocabularies, where one can see
 * what must come out. tests/python/test_tokenizer_oracle.py compares with Hugging Face tokenizers.
 */
#include "tokenizer_files.h"

#include <pthread.h>
#include <time.h>

#include "core/text/tokenizer.h"

/* ---- Helpers -------------------------------------------------------------------------------- */

static phi3_tokenizer *load_from(const char *path)
{
    phi3_tokenizer *tokenizer = NULL;
    phi3_error error = {0};
    if (phi3_tokenizer_load(path, &tokenizer, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    return tokenizer;
}

static phi3_tokenizer *load(buffer json)
{
    write_bytes("tokenizer.json", json.data, json.size);
    release(&json);
    return load_from(in_directory("tokenizer.json"));
}

static phi3_tokenizer *load_byte_level(const char *pre_tokenizer)
{
    return load(byte_tokenizer(pre_tokenizer));
}

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"

/* Encodes without special tokens and expects these ids, up to -1. */
static void expect_ids(const phi3_tokenizer *tokenizer, const char *text, const int32_t *ids)
{
    phi3_encoding encoding;
    phi3_encode_options plain = {0};
    assert_int_equal(phi3_tokenizer_encode(tokenizer, text, strlen(text), &plain, &encoding, NULL),
                     PHI3_OK);
    for (size_t i = 0; i < encoding.count; i++) {
        if (encoding.ids[i] != ids[i])
            fail_msg("\"%s\": id %zu is %d, not %d", text, i, encoding.ids[i], ids[i]);
    }
    assert_int_equal(ids[encoding.count], -1);
    phi3_encoding_free(&encoding);
}
#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static void expect_text(const phi3_tokenizer *tokenizer, const int32_t *ids, bool skip,
                        const char *expected)
{
    size_t count = 0, size;
    char *text;
    while (ids[count] != -1)
        count++;
    assert_int_equal(phi3_tokenizer_decode(tokenizer, ids, count, skip, &text, &size, NULL),
                     PHI3_OK);
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    phi3_free(text);
}

/* ---- SentencePiece's kind ------------------------------------------------------------------- */

static void merges_pieces_with_byte_fallback(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    assert_int_equal(phi3_tokenizer_vocab_size(tokenizer), 266);
    assert_int_equal(phi3_tokenizer_length(tokenizer), 268);
    expect_ids(tokenizer, "", IDS(-1));
    expect_ids(tokenizer, "ab", IDS(264));
    expect_ids(tokenizer, "ab ab  a", IDS(264, 264, 259, 263));
    expect_ids(tokenizer, "aabb", IDS(263, 262, 261));
    expect_ids(tokenizer, "   ", IDS(265, 265));
    expect_ids(tokenizer, "a\xC3\xA9", IDS(263, 3 + 0xC3, 3 + 0xA9));
    phi3_tokenizer_free(tokenizer);
}

static void cuts_added_tokens(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    expect_ids(tokenizer,
               "ab<|end|> \n\xE3\x80\x80"
               "ab",
               IDS(264, 270, 264));
    expect_ids(tokenizer, "<|end|>\xE2\x80\x8B", IDS(270, 259, 3 + 0xE2, 3 + 0x80, 3 + 0x8B));
    expect_ids(tokenizer, "<|end|><|end|> a", IDS(271, 259, 263)); /* the longest; no rstrip */
    expect_ids(tokenizer, "<s> <s>", IDS(1, 265, 1));
    phi3_encode_options split = {.split_special_tokens = true};
    phi3_encoding encoding;
    assert_int_equal(phi3_tokenizer_encode(tokenizer, "<|end|></s>", 11, &split, &encoding, NULL),
                     PHI3_OK);
    assert_int_equal(encoding.count, 9); /* the mark, seven characters, and </s>, not special */
    assert_int_equal(encoding.ids[8], 2);
    phi3_encoding_free(&encoding);
    phi3_tokenizer_free(tokenizer);
}

static void tells_places(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    const char *text = "ab  \xC3\xA9<|end|> \nb";
    const size_t places[][2] = {{0, 0}, {0, 2},  {2, 4},   {4, 6},
                                {4, 6}, {6, 15}, {15, 16}, {15, 16}};
    phi3_encoding encoding;
    assert_int_equal(phi3_tokenizer_encode(tokenizer, text, strlen(text), NULL, &encoding, NULL),
                     PHI3_OK);
    assert_int_equal(encoding.count, 8);
    assert_int_equal(encoding.ids[0], 1); /* options NULL: with BOS */
    for (size_t i = 0; i < encoding.count; i++) {
        assert_int_equal(encoding.offsets[i].start, places[i][0]);
        assert_int_equal(encoding.offsets[i].end, places[i][1]);
    }
    phi3_encoding_free(&encoding);
    phi3_tokenizer_free(tokenizer);
}

static void refuses_what_is_not_utf8(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    static const struct {
        const char *text, *place;
    } cases[] = {{"a\xFF", "0xFF at byte 1"},
                 {"ab\xED\xA0\x80", "0xED at byte 2"}, /* a surrogate */
                 {"\xE2\x96", "0xE2 at byte 0"},
                 {"\xC0\x80", "0xC0 at byte 0"},
                 {"\xC3\xA9\xF4\x90\x80\x80", "0xF4 at byte 2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        phi3_encoding encoding = {0};
        phi3_error error = {0};
        assert_int_equal(phi3_tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text),
                                               NULL, &encoding, &error),
                         PHI3_ERROR_TYPE);
        assert_non_null(strstr(error.message, cases[i].place));
        assert_null(encoding.ids);
    }
    phi3_tokenizer_free(tokenizer);
}

static void decodes_byte_runs(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    expect_text(tokenizer, IDS(264, 263), false, "ab a");
    expect_text(tokenizer, IDS(265, 260), false, " a"); /* one leading space is gone */
    expect_text(tokenizer, IDS(1, 270, 2, 264), false, "<s><|end|></s> ab");
    expect_text(tokenizer, IDS(1, 270, 2, 264), true, "</s> ab");
    expect_text(tokenizer, IDS(3 + 0xC3, 3 + 0xA9), false, "\xC3\xA9");
    expect_text(tokenizer, IDS(3 + 0xC3, 3 + 0xA9, 3 + 0xFF, 260), false,
                "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                "a");
    expect_text(tokenizer, IDS(3 + 0xC3, 1, 3 + 0xA9), true, "\xC3\xA9");
    expect_text(tokenizer, IDS(260, 269, 31999, 261, -7), false, "ab");
    phi3_tokenizer_free(tokenizer);
}

static void answers_questions(void **state)
{
    (void)state;
    buffer json = sentence_tokenizer();
    write_bytes("tokenizer.json", json.data, json.size);
    release(&json);
    write_text("tokenizer_config.json",
               "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"<|end|>\"},\"pad_token\":null,"
               "\"model_max_length\":4096,\"chat_template\":[{\"name\":\"tool_use\","
               "\"template\":\"no\"},{\"name\":\"default\",\"template\":\"{{ x }}\"}],"
               "\"added_tokens_decoder\":{\"271\":{\"content\":\"<|end|><|end|>\","
               "\"special\":false,\"normalized\":false,\"lstrip\":true}}}");
    write_text("special_tokens_map.json", "{\"bos_token\":\"a\",\"unk_token\":\"<unk>\"}");
    phi3_tokenizer *tokenizer = load_from(test_directory);
    assert_int_equal(phi3_tokenizer_special_id(tokenizer, PHI3_TOKEN_BOS), 1);
    assert_int_equal(phi3_tokenizer_special_id(tokenizer, PHI3_TOKEN_EOS), 270);
    assert_int_equal(phi3_tokenizer_special_id(tokenizer, PHI3_TOKEN_UNK), 0);
    assert_int_equal(phi3_tokenizer_special_id(tokenizer, PHI3_TOKEN_PAD), -1);
    assert_int_equal(phi3_tokenizer_model_max_length(tokenizer), 4096);
    assert_string_equal(phi3_tokenizer_chat_template(tokenizer), "{{ x }}");

    assert_int_equal(phi3_tokenizer_added_token_count(tokenizer), 5);
    phi3_added_token last = phi3_tokenizer_added_token(tokenizer, 4);
    assert_int_equal(last.id, 271);
    assert_string_equal(last.content, "<|end|><|end|>");
    assert_true(last.lstrip && last.special); /* once special, always special */
    assert_int_equal(phi3_tokenizer_added_token(tokenizer, 5).id, -1);

    size_t size;
    assert_int_equal(phi3_tokenizer_token_to_id(tokenizer, MARK "ab", 5), 264);
    assert_int_equal(phi3_tokenizer_token_to_id(tokenizer, "abc", 3), -1);
    assert_memory_equal(phi3_tokenizer_id_to_token(tokenizer, 264, &size), MARK "ab", 5);
    assert_int_equal(size, 5);
    assert_memory_equal(phi3_tokenizer_token_bytes(tokenizer, 264, &size), " ab", 3);
    assert_int_equal(size, 3);
    assert_memory_equal(phi3_tokenizer_token_bytes(tokenizer, 3 + 0xE2, &size), "\xE2", 1);
    assert_int_equal(size, 1);
    assert_null(phi3_tokenizer_id_to_token(tokenizer, 269, &size));
    assert_null(phi3_tokenizer_token_bytes(tokenizer, -1, &size));
    phi3_tokenizer_free(tokenizer);
    phi3_tokenizer_free(NULL);

    write_text("chat_template.jinja", "{{ file }}");
    tokenizer = load_from(test_directory);
    assert_string_equal(phi3_tokenizer_chat_template(tokenizer), "{{ file }}");
    phi3_tokenizer_free(tokenizer);
}

/* ---- The byte-level kind -------------------------------------------------------------------- */

static void merges_bytes_within_pieces(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load_byte_level(BYTE_LEVEL);
    expect_ids(tokenizer, "ab ab a", IDS(256, ' ', 256, 257));
    expect_ids(tokenizer, "a\xC3\xA9<|x|>b", IDS('a', 0xC3, 0xA9, 258, 'b'));
    expect_text(tokenizer, IDS('a', 0xC3, 0xA9), false, "a\xC3\xA9");
    expect_text(tokenizer, IDS(0xE2, 0x96, 'a'), false,
                "\xEF\xBF\xBD"
                "a");
    expect_text(tokenizer, IDS(0xF0, 0x9F, 0xF0, 0x9F, 0x98, 0x80), false,
                "\xEF\xBF\xBD\xF0\x9F\x98\x80");
    expect_text(tokenizer, IDS(0xED, 0xA0, 0x80), false, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    phi3_tokenizer_free(tokenizer);
}

/* The five behaviours on "xaby", split by "a" or by all but "a". */
static void splits_as_told(void **state)
{
    (void)state;
    static const struct {
        const char *behavior;
        bool keeps_ab, drops_a;
    } cases[] = {{"Removed", false, true},
                 {"Isolated", false, false},
                 {"MergedWithPrevious", false, false},
                 {"MergedWithNext", true, false},
                 {"Contiguous", false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[256];
        snprintf(json, sizeof json,
                 "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                 "{\"String\":\"a\"},\"behavior\":\"%s\",\"invert\":false},{\"type\":\"ByteLevel\","
                 "\"add_prefix_space\":false,\"use_regex\":false}]}",
                 cases[i].behavior);
        phi3_tokenizer *tokenizer = load_byte_level(json);
        expect_ids(tokenizer, "xaby",
                   cases[i].keeps_ab  ? IDS('x', 256, 'y')
                   : cases[i].drops_a ? IDS('x', 'b', 'y')
                                      : IDS('x', 'a', 'b', 'y'));
        phi3_tokenizer_free(tokenizer);
    }
}

/* Characters that PCRE2 10.42 does not know, or knows for something else, as pieces show: a merge
 * of " a" must not cross the end of a piece. */
static void knows_young_characters(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load_byte_level(
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"\\\\p{Ll}+|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":"
        "\"ByteLevel\","
        "\"add_prefix_space\":false,\"use_regex\":false}]}");
    expect_ids(tokenizer, " a", IDS(' ', 'a'));
    /* U+1C8A is a small letter since Unicode 16: one piece with the letters beside it. */
    expect_ids(tokenizer,
               "\xE1\xB2\x8A"
               "ab",
               IDS(0xE1, 0xB2, 0x8A, 256));
    /* U+180E is no space since Unicode 6.3, so " " is a piece of its own. */
    expect_ids(tokenizer,
               "\xE1\xA0\x8E"
               " a",
               IDS(0xE1, 0xA0, 0x8E, ' ', 'a'));
    phi3_tokenizer_free(tokenizer);
}

/* ---- Merging against the plainest way to do it ---------------------------------------------- */

enum { LETTERS = 3, MAX_RUN = 300 };

/* Merges the lowest-ranked, leftmost pair until there is none. */
static size_t merge_plainly(int32_t *ids, size_t count, int32_t merges[][3], size_t n_merges)
{
    for (size_t rank = 0; rank < n_merges;) {
        size_t i = 0;
        while (i + 1 < count && !(ids[i] == merges[rank][0] && ids[i + 1] == merges[rank][1]))
            i++;
        if (i + 1 >= count) {
            rank++;
            continue;
        }
        ids[i] = merges[rank][2];
        memmove(ids + i + 1, ids + i + 2, (count - i - 2) * sizeof *ids);
        count--;
        rank = 0;
    }
    return count;
}

/* A vocabulary of random merges over a, b, c. */
static size_t random_merges(uint64_t *random, char tokens[][64], size_t n_tokens,
                            int32_t merges[][3])
{
    size_t n_merges = 0;
    for (size_t id = 0; id < LETTERS; id++)
        snprintf(tokens[id], 64, "%c", (char)('a' + id));
    for (size_t id = LETTERS; id < n_tokens; n_merges++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        size_t left = (*random >> 33) % id, right = (*random >> 45) % id, same = 0;
        char joined[128];
        snprintf(joined, sizeof joined, "%s%s", tokens[left], tokens[right]);
        while (same < id && strcmp(tokens[same], joined) != 0)
            same++;
        if (strlen(joined) >= 12 || same < id) {
            n_merges--;
            continue;
        }
        strcpy(tokens[id], joined);
        merges[n_merges][0] = (int32_t)left;
        merges[n_merges][1] = (int32_t)right;
        merges[n_merges][2] = (int32_t)id++;
    }
    return n_merges;
}

static phi3_tokenizer *load_merges(char tokens[][64], size_t n_tokens, int32_t merges[][3],
                                   size_t n_merges)
{
    buffer json = {0};
    put_text(&json, "{\"model\":{\"vocab\":{");
    for (size_t id = 0; id < n_tokens; id++) {
        put_text(&json, id > 0 ? ",\"" : "\"");
        put_text(&json, tokens[id]);
        put_number(&json, (unsigned)id, "\":%u");
    }
    put_text(&json, "},\"merges\":[");
    for (size_t rank = 0; rank < n_merges; rank++) {
        put_text(&json, rank > 0 ? ",\"" : "\"");
        put_text(&json, tokens[merges[rank][0]]);
        put_text(&json, " ");
        put_text(&json, tokens[merges[rank][1]]);
        put_text(&json, "\"");
    }
    put_text(&json, "]}}");
    return load(json);
}

static void merges_in_the_order_of_ranks(void **state)
{
    (void)state;
    enum { TOKENS = 24 };
    uint64_t random = 1;
    for (int round = 0; round < 40; round++) {
        char tokens[TOKENS][64];
        int32_t merges[TOKENS][3];
        size_t n_merges = random_merges(&random, tokens, TOKENS, merges);
        phi3_tokenizer *tokenizer = load_merges(tokens, TOKENS, merges, n_merges);
        for (int text = 0; text < 40; text++) {
            char letters[MAX_RUN + 1] = "";
            int32_t expected[MAX_RUN + 1];
            size_t size = (random >> 40) % MAX_RUN + 1;
            for (size_t i = 0; i < size; i++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                expected[i] = (int32_t)((random >> 35) % LETTERS);
                letters[i] = (char)('a' + expected[i]);
            }
            expected[merge_plainly(expected, size, merges, n_merges)] = -1;
            expect_ids(tokenizer, letters, expected);
        }
        phi3_tokenizer_free(tokenizer);
    }
}

/* ---- Streams -------------------------------------------------------------------------------- */

static bool is_utf8(const char *text, size_t size)
{
    /* No byte that stands alone: every lead byte has its tail. */
    for (size_t i = 0; i < size;) {
        uint8_t lead = (uint8_t)text[i];
        size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        if (length == 0 || i + length > size)
            return false;
        for (size_t k = 1; k < length; k++) {
            if (((uint8_t)text[i + k] & 0xC0) != 0x80)
                return false;
        }
        i += length;
    }
    return true;
}

/* Random ids, many of them bytes: pieces are whole characters and join to what decode gives. */
static void compare_streams(const phi3_tokenizer *tokenizer, int32_t n_ids)
{
    uint64_t random = 7;
    for (int round = 0; round < 4000; round++) {
        int32_t ids[24];
        size_t count = (size_t)(round % 24) + 1, size, joined_size = 0;
        bool skip = round % 2 == 0;
        char joined[1024], *whole;
        const char *piece;
        phi3_stream_decoder *decoder;
        assert_int_equal(phi3_stream_decoder_create(tokenizer, skip, &decoder, NULL), PHI3_OK);
        for (int use = 0; use < 2; use++) { /* the second time after the end of the first */
            joined_size = 0;
            for (size_t i = 0; i < count; i++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                ids[i] = (int32_t)((random >> 33) % (uint64_t)n_ids) - 1;
                assert_int_equal(phi3_stream_decoder_put(decoder, ids[i], &piece, &size, NULL),
                                 PHI3_OK);
                assert_true(is_utf8(piece, size));
                assert_int_equal(piece[size], '\0');
                memcpy(joined + joined_size, piece, size);
                joined_size += size;
            }
            assert_int_equal(phi3_stream_decoder_end(decoder, &piece, &size, NULL), PHI3_OK);
            assert_true(is_utf8(piece, size));
            memcpy(joined + joined_size, piece, size);
            joined_size += size;
            assert_int_equal(
                phi3_tokenizer_decode(tokenizer, ids, count, skip, &whole, &size, NULL), PHI3_OK);
            assert_int_equal(size, joined_size);
            assert_memory_equal(whole, joined, size);
            phi3_free(whole);
        }
        phi3_stream_decoder_free(decoder);
    }
    phi3_stream_decoder_free(NULL);
}

static void streams_join_to_the_decoded_text(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    compare_streams(tokenizer, 274);
    phi3_tokenizer_free(tokenizer);
    tokenizer = load_byte_level(BYTE_LEVEL);
    compare_streams(tokenizer, 261);
    phi3_tokenizer_free(tokenizer);
}

static void streams_emit_as_soon_as_decided(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load(sentence_tokenizer());
    static const struct {
        int32_t id;
        const char *piece;
    } steps[] = {{264, "ab"},         {3 + 0xC3, ""}, {3 + 0xA9, ""},
                 {263, "\xC3\xA9 a"}, {259, " "},     {3 + 0xC3, ""}};
    phi3_stream_decoder *decoder;
    const char *text;
    size_t size;
    assert_int_equal(phi3_stream_decoder_create(tokenizer, false, &decoder, NULL), PHI3_OK);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(phi3_stream_decoder_put(decoder, steps[i].id, &text, &size, NULL),
                         PHI3_OK);
        assert_string_equal(text, steps[i].piece);
    }
    assert_int_equal(phi3_stream_decoder_end(decoder, &text, &size, NULL), PHI3_OK);
    assert_string_equal(text, "\xEF\xBF\xBD");
    phi3_stream_decoder_free(decoder);
    phi3_tokenizer_free(tokenizer);
}

/* ---- Threads and time ----------------------------------------------------------------------- */

static void *encode_many(void *argument)
{
    const phi3_tokenizer *tokenizer = argument;
    static const char text[] = "ab ab<|x|> ba\xC3\xA9 'll 12 ab";
    size_t wrong = 0, expected = 0;
    for (int i = 0; i < 300; i++) {
        phi3_encoding encoding;
        if (phi3_tokenizer_encode(tokenizer, text, strlen(text), NULL, &encoding, NULL) != PHI3_OK)
            return "encode failed";
        expected = i == 0 ? encoding.count : expected;
        wrong += encoding.count != expected || encoding.ids[0] != 256;
        phi3_encoding_free(&encoding);
    }
    return wrong == 0 ? NULL : "other ids";
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    phi3_tokenizer *tokenizer = load_byte_level(BYTE_LEVEL);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, tokenizer), 0);
    for (size_t i = 0; i < 4; i++) {
        void *complaint;
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
    phi3_tokenizer_free(tokenizer);
}

static double seconds_to_encode(const phi3_tokenizer *tokenizer, const char *unit, size_t size)
{
    char *text = malloc(size);
    assert_non_null(text);
    size_t unit_size = strlen(unit);
    size -= size % unit_size;
    for (size_t i = 0; i < size; i += unit_size)
        memcpy(text + i, unit, unit_size);
    clock_t begin = clock();
    phi3_encoding encoding;
    assert_int_equal(phi3_tokenizer_encode(tokenizer, text, size, NULL, &encoding, NULL), PHI3_OK);
    phi3_encoding_free(&encoding);
    free(text);
    return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

/* Sixteen times the text takes sixteen times as long, and a quadratic part would make it 256: the
 * line is drawn at 32, for caches. A busy machine only ever adds time, so one good try in three
 * answers the question. AddressSanitizer's own memmem() checks all that is left of a text at each
 * call, which is quadratic: no times are taken there. */
static void time_is_close_to_linear(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    static const char *const units[] = {
        "a",   "ab",           " ",  "\n",   "<|", "<|end|>", "<|end|>        ",
        "ab ", "\xE4\xB8\xAD", MARK, "a ' 1"};
    phi3_tokenizer *tokenizers[] = {load(sentence_tokenizer()), load_byte_level(BYTE_LEVEL)};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        for (size_t k = 0; k < 2; k++) {
            double small = seconds_to_encode(tokenizers[k], units[i], 1 << 15);
            double large = seconds_to_encode(tokenizers[k], units[i], 1 << 19);
            for (int try = 1; try < 3 && large > 32 * small + 0.5; try++)
                large = seconds_to_encode(tokenizers[k], units[i], 1 << 19);
            if (large > 32 * small + 0.5)
                fail_msg("\"%s\": 32 KiB take %.3f s, 512 KiB %.3f s", units[i], small, large);
        }
    }
    phi3_tokenizer_free(tokenizers[0]);
    phi3_tokenizer_free(tokenizers[1]);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(merges_pieces_with_byte_fallback),
        TEST(cuts_added_tokens),
        TEST(tells_places),
        TEST(refuses_what_is_not_utf8),
        TEST(decodes_byte_runs),
        TEST(answers_questions),
        TEST(merges_bytes_within_pieces),
        TEST(splits_as_told),
        TEST(knows_young_characters),
        TEST(merges_in_the_order_of_ranks),
        TEST(streams_join_to_the_decoded_text),
        TEST(streams_emit_as_soon_as_decided),
        TEST(threads_share_a_tokenizer),
        TEST(time_is_close_to_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
