/*
 * save.c - writes a model as a GGUF file, quantised or as it is stored.
 *
 * In: a Hugging Face directory or a GGUF file, and the name of a quantisation. Out: a file that phi3
 * and llama.cpp load. A checkpoint gets metadata of its own; that of a GGUF file is taken over, with
 * its tokenizer. One tensor's rows are in memory at a time; what has been read of the source is given
 * back.
 */
#include "save.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "model.h"
#include "weights_check.h"

enum { CHUNK_ELEMENTS = 1 << 21 }; /* between two looks at the progress callback */

typedef struct saver {
    const char *path, *out_path;
    const phi3_quantization *quantization; /* NULL: as stored */
    const phi3_save_options *options;
    int n_threads;
    phi3_gguf *gguf; /* the source, when it is a GGUF file */
    phi3_loaded_config config;
    phi3_weights weights;
    phi3_saved_tensors tensors;
    phi3_gguf_writer writer;
    double n_elements, n_done;
    phi3_error *error;
} saver;

/* ---- Rows ----------------------------------------------------------------------------------- */

static phi3_status report_progress(const saver *to)
{
    const phi3_save_options *options = to->options;
    float done = to->n_elements > 0 ? (float)(to->n_done / to->n_elements) : 1;
    if (options->progress != NULL && options->progress(done, options->progress_data))
        return phi3_fail(to->error, PHI3_ERROR_INTERRUPTED, "%s: the writing was interrupted",
                         to->out_path);
    return PHI3_OK;
}

/* Row `row` of a part as it is written comes from this one: row 2i of a head from row i of its first
 * half, row 2i + 1 from row i of the second. */
static size_t source_row(const phi3_saved_tensor *tensor, size_t row)
{
    size_t head = tensor->interleaved_head;
    if (head == 0)
        return row;
    size_t in_head = row % head;
    return row - in_head + in_head / 2 + in_head % 2 * (head / 2);
}

/* Memory for the rows of a chunk: in order, and in the new format. */
typedef struct buffers {
    uint8_t *ordered, *converted;
} buffers;

/* The stored rows [first, first + count) in the order of the new file. */
static const uint8_t *order_rows(const phi3_saved_tensor *tensor, const phi3_tensor *part,
                                 size_t first, size_t count, const buffers *memory)
{
    size_t row_bytes = phi3_dtype_row_bytes(part->dtype, part->n_columns);
    const uint8_t *stored = part->data;
    if (tensor->interleaved_head == 0)
        return stored + first * row_bytes;
    for (size_t i = 0; i < count; i++)
        memcpy(memory->ordered + i * row_bytes, stored + source_row(tensor, first + i) * row_bytes,
               row_bytes);
    return memory->ordered;
}

static phi3_status write_chunk(saver *to, const phi3_saved_tensor *tensor, const phi3_tensor *part,
                               size_t first, size_t count, const buffers *memory)
{
    size_t n_columns = part->n_columns;
    const uint8_t *rows = order_rows(tensor, part, first, count, memory);
    if (part->dtype != tensor->dtype) {
        size_t good = phi3_convert_rows(part->dtype, rows, count, n_columns, tensor->dtype,
                                        memory->converted, to->n_threads);
        if (good < count)
            return phi3_fail_row(to->path, tensor->name, part, source_row(tensor, first + good),
                                 tensor->dtype, to->error);
        rows = memory->converted;
    }
    size_t size = count * phi3_dtype_row_bytes(tensor->dtype, n_columns);
    PHI3_TRY(phi3_gguf_write(&to->writer, rows, size, to->error));
    to->n_done += (double)(count * n_columns);
    return report_progress(to);
}

static phi3_status write_part(saver *to, const phi3_saved_tensor *tensor, const phi3_tensor *part,
                              size_t chunk_rows, const buffers *memory)
{
    for (size_t row = 0; row < part->n_rows; row += chunk_rows) {
        size_t left = part->n_rows - row;
        PHI3_TRY(write_chunk(to, tensor, part, row, left < chunk_rows ? left : chunk_rows, memory));
    }
    return PHI3_OK;
}

/* The factors of the rope are no part of a file. */
static bool is_mapped(const saver *to, const phi3_tensor *part)
{
    return part->data != to->config.long_factor && part->data != to->config.short_factor;
}

static phi3_status write_tensor(saver *to, const phi3_saved_tensor *tensor)
{
    size_t n_columns = tensor->part[0].n_columns;
    size_t rows = n_columns < CHUNK_ELEMENTS ? CHUNK_ELEMENTS / n_columns : 1;
    buffers memory = {malloc(rows * n_columns * sizeof(float)),
                      malloc(rows * n_columns * sizeof(float))};
    phi3_status status = memory.ordered == NULL || memory.converted == NULL
                             ? phi3_fail_memory(to->error, "the rows of a tensor")
                             : PHI3_OK;
    for (size_t i = 0; status == PHI3_OK && i < tensor->n_parts; i++) {
        const phi3_tensor *part = &tensor->part[i];
        status = write_part(to, tensor, part, rows, &memory);
        if (is_mapped(to, part))
            phi3_file_release(part->data,
                              part->n_rows * phi3_dtype_row_bytes(part->dtype, n_columns));
    }
    free(memory.ordered);
    free(memory.converted);
    return status == PHI3_OK ? phi3_gguf_end_tensor(&to->writer, to->error) : status;
}

/* ---- What is in the file ---------------------------------------------------------------------- */

/* The number of the format that most elements have. */
static uint32_t stored_file_type(const phi3_config *config)
{
    for (uint32_t dtype = 0; dtype < PHI3_DTYPE_LIMIT; dtype++) {
        const phi3_dtype_info *traits = phi3_dtype_traits(dtype);
        if (traits != NULL && strcmp(traits->name, config->dtype) == 0)
            return phi3_quantization_file_type(dtype);
    }
    return phi3_quantization_file_type(PHI3_F32);
}

static phi3_status put_tokenizer(saver *to)
{
    phi3_tokenizer *tokenizer = NULL;
    phi3_error reason;
    phi3_status status = phi3_tokenizer_load(to->path, &tokenizer, &reason);
    if (status == PHI3_ERROR_NOT_FOUND) {
        phi3_log(PHI3_LOG_WARNING, "%s: the new file has no tokenizer: %s", to->path,
                 reason.message);
        phi3_gguf_put_text(&to->writer, "tokenizer.ggml.model", "none", 4);
    } else if (status != PHI3_OK) {
        return phi3_fail(to->error, status, "%s", reason.message);
    } else {
        status = phi3_save_put_tokenizer(&to->writer, to->path, tokenizer,
                                         to->config.config.vocab_size, to->error);
        if (status != PHI3_OK) {
            phi3_tokenizer_free(tokenizer);
            return status;
        }
    }
    phi3_save_put_ends(&to->writer, &to->config, tokenizer);
    phi3_tokenizer_free(tokenizer);
    return PHI3_OK;
}

static phi3_status describe_checkpoint(saver *to)
{
    uint32_t file_type = to->quantization != NULL ? to->quantization->file_type
                                                  : stored_file_type(&to->config.config);
    phi3_save_put_config(&to->writer, to->path, &to->config, file_type);
    PHI3_TRY(put_tokenizer(to));
    return phi3_save_list_weights(to->path, &to->weights, &to->config, to->quantization,
                                  &to->tensors, to->error);
}

/* The keys are taken over, but for those that say how the old file was made. */
static phi3_status describe_gguf(saver *to)
{
    static const char *const without[] = {"general.alignment", "split.", "general.file_type",
                                          "general.quantization_version"};
    bool as_stored = to->quantization == NULL;
    phi3_gguf_put_all(&to->writer, to->gguf, without, as_stored ? 2 : 4);
    if (!as_stored) {
        phi3_gguf_put_u32(&to->writer, "general.file_type", to->quantization->file_type);
        phi3_gguf_put_u32(&to->writer, "general.quantization_version", 2);
    }
    return phi3_save_list_gguf(to->gguf, &to->config.config, to->quantization, &to->tensors,
                               to->error);
}

static void add_tensors(saver *to)
{
    bool requantized = false;
    for (size_t i = 0; i < to->tensors.count; i++) {
        const phi3_saved_tensor *tensor = &to->tensors.list[i];
        size_t n_rows = 0, n_columns = tensor->part[0].n_columns;
        for (size_t k = 0; k < tensor->n_parts; k++)
            n_rows += tensor->part[k].n_rows;
        phi3_gguf_add_tensor(&to->writer, tensor->name, tensor->dtype, n_rows, n_columns,
                             tensor->is_vector);
        to->n_elements += (double)n_rows * (double)n_columns;
        requantized |= tensor->part[0].dtype != tensor->dtype &&
                       phi3_dtype_traits(tensor->part[0].dtype)->block_size > 1;
    }
    if (requantized)
        phi3_log(PHI3_LOG_WARNING,
                 "%s: its weights are quantised already; rounding them again costs accuracy",
                 to->path);
}

/* ---- The whole ------------------------------------------------------------------------------- */

static phi3_status save_opened(saver *to)
{
    PHI3_TRY(to->gguf != NULL ? describe_gguf(to) : describe_checkpoint(to));
    add_tensors(to);
    PHI3_TRY(phi3_gguf_begin(&to->writer, to->out_path, to->options->overwrite, to->error));
    PHI3_TRY(report_progress(to));
    for (size_t i = 0; i < to->tensors.count; i++)
        PHI3_TRY(write_tensor(to, &to->tensors.list[i]));
    return phi3_gguf_end(&to->writer, to->error);
}

static phi3_status save(const char *path, const phi3_quantization *quantization,
                        const char *out_path, const phi3_save_options *options, phi3_error *error)
{
    saver to = {.path = path,
                .out_path = out_path,
                .quantization = quantization,
                .options = options,
                .n_threads = options->n_threads > 0 ? options->n_threads : phi3_default_threads(),
                .error = error};
    PHI3_TRY(phi3_process_begin_work(error));
    PHI3_TRY(phi3_weights_open(path, &to.config, &to.weights, error));
    phi3_status status = PHI3_OK;
    if (!phi3_path_is_directory(path))
        status = phi3_gguf_open(path, &to.gguf, error);
    if (status == PHI3_OK)
        status = save_opened(&to);
    phi3_gguf_writer_free(&to.writer);
    free(to.tensors.list);
    phi3_gguf_close(to.gguf);
    phi3_weights_close(&to.weights);
    phi3_config_free(&to.config);
    return status;
}

phi3_status phi3_quantize(const char *path, const char *type, const char *out_path,
                          const phi3_save_options *options, phi3_error *error)
{
    const phi3_save_options defaults = {0};
    const phi3_quantization *quantization = NULL;
    options = options == NULL ? &defaults : options;
    if (type != NULL)
        PHI3_TRY(phi3_quantization_find(type, &quantization, error));
    if (options->n_threads < 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "n_threads is %d", options->n_threads);
    if (*out_path == '\0')
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "the path of the new file is empty");
    return save(path, quantization, out_path, options, error);
}

phi3_status phi3_model_save(const phi3_model *model, const char *out_path,
                            const phi3_save_options *options, phi3_error *error)
{
    const char *type = model->quantization == NULL ? NULL : model->quantization->name;
    return phi3_quantize(model->path, type, out_path, options, error);
}
