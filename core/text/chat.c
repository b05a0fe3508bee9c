/*
 * chat.c - messages to the prompt, byte for byte as the model's Jinja template renders them.
 *
 * In: messages and the format that chat_formats.c knows the template as. Out: one text. The text is
 * written twice, first only to learn its size, so that it is allocated once.
 */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "utf8.h"

/* ---- Checks ----------------------------------------------------------------------------------- */

static phi3_text content_of(const phi3_message *message)
{
    size_t size = message->content_size;
    if (message->content != NULL && size == 0)
        size = strlen(message->content);
    return (phi3_text){message->content, size};
}

static bool is_utf8(phi3_text text)
{
    for (size_t i = 0, length; i < text.size; i += length) {
        length = phi3_utf8_character(text.text + i, text.size - i);
        if (length == 0)
            return false;
    }
    return true;
}

static phi3_text from_string(const char *string)
{
    return (phi3_text){string, string == NULL ? 0 : strlen(string)};
}

static phi3_status check_message(const phi3_message *message, size_t index, phi3_error *error)
{
    if (message->role == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "message %zu has no role", index);
    if (message->content == NULL && message->content_size > 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "message %zu has a content_size but no content", index);
    const char *broken = !is_utf8(from_string(message->role))    ? "role"
                         : !is_utf8(content_of(message))         ? "content"
                         : !is_utf8(from_string(message->tools)) ? "tools"
                                                                 : NULL;
    if (broken != NULL)
        return phi3_fail(error, PHI3_ERROR_TYPE, "the %s of message %zu is not valid UTF-8", broken,
                         index);
    return PHI3_OK;
}

/* What transformers refuses, in its words. */
static phi3_status check_chat(const phi3_message *messages, size_t count,
                              const phi3_chat_options *options, phi3_error *error)
{
    if (count == 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "Cannot apply chat template to an empty conversation. Provide at least "
                         "one message.");
    if (messages == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "messages is NULL");
    if (options->continue_final_message && options->add_generation_prompt)
        return phi3_fail(
            error, PHI3_ERROR_INVALID_ARGUMENT,
            "continue_final_message and add_generation_prompt are not compatible. Use "
            "continue_final_message when you want the model to continue the final message, and "
            "add_generation_prompt when you want to add a header that will prompt it to start a "
            "new assistant message instead.");
    for (size_t i = 0; i < count; i++)
        PHI3_TRY(check_message(&messages[i], i, error));
    if (options->continue_final_message && messages[count - 1].content == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "continue_final_message is set but the final message has no \"content\" "
                         "to continue!");
    return PHI3_OK;
}

/* ---- Writing ---------------------------------------------------------------------------------- */

typedef struct writer {
    char *text;  /* NULL: only count */
    size_t size; /* so far; SIZE_MAX: more than memory can hold */
} writer;

static void put(writer *out, phi3_text piece)
{
    if (out->text != NULL && piece.size > 0)
        memcpy(out->text + out->size, piece.text, piece.size);
    if (phi3_add_overflows(out->size, piece.size, &out->size))
        out->size = SIZE_MAX;
}

static void put_string(writer *out, const char *string)
{
    put(out, from_string(string));
}

typedef struct conversation {
    const phi3_chat_format *format;
    phi3_text bos, eos;
    const phi3_message *messages; /* [count] */
    size_t count;
    phi3_chat_options options;
} conversation;

static bool is_continued(const conversation *chat, size_t index)
{
    return chat->options.continue_final_message && index == chat->count - 1;
}

/* How message `index` is written; NULL: the template leaves it out. A message that is going to be
 * continued counts as having text. */
static const phi3_chat_turn *turn_of(const conversation *chat, size_t index)
{
    const phi3_message *message = &chat->messages[index];
    for (size_t i = 0; i < PHI3_CHAT_MAX_TURNS; i++) {
        const phi3_chat_turn *turn = &chat->format->turns[i];
        if (turn->before == NULL)
            break;
        if (turn->role != NULL && strcmp(turn->role, message->role) != 0)
            continue;
        bool empty = content_of(message).size == 0 && !is_continued(chat, index);
        return turn->skip_empty && empty ? NULL : turn;
    }
    return NULL;
}

static phi3_status put_message(writer *out, const conversation *chat, size_t index,
                               phi3_error *error)
{
    const phi3_message *message = &chat->messages[index];
    const phi3_chat_turn *turn = turn_of(chat, index);
    if (turn == NULL && is_continued(chat, index))
        return phi3_fail(
            error, PHI3_ERROR_INVALID_ARGUMENT,
            "continue_final_message is set but the final message does not appear in the chat after "
            "applying the chat template! This can happen if the chat template deletes portions of "
            "the final message. Please verify the chat template and final message in your chat to "
            "ensure they are compatible.");
    if (turn == NULL)
        return PHI3_OK;
    if (message->content == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "message %zu has no content", index);

    put_string(out, turn->before);
    if (turn->after_role != NULL) {
        put_string(out, message->role);
        put_string(out, turn->after_role);
    }
    put(out, content_of(message));
    if (is_continued(chat, index))
        return PHI3_OK;
    if (turn->before_tools != NULL && message->tools != NULL) {
        put_string(out, turn->before_tools);
        put_string(out, message->tools);
        put_string(out, turn->after_tools);
    }
    put_string(out, turn->after);
    return PHI3_OK;
}

static phi3_status put_chat(writer *out, const conversation *chat, phi3_error *error)
{
    const phi3_chat_format *format = chat->format;
    if (format->starts_with_bos)
        put(out, chat->bos);
    if (format->default_system != NULL && strcmp(chat->messages[0].role, "system") != 0)
        put_string(out, format->default_system);
    for (size_t i = 0; i < chat->count; i++)
        PHI3_TRY(put_message(out, chat, i, error));
    if (chat->options.continue_final_message)
        return PHI3_OK;
    if (chat->options.add_generation_prompt)
        put_string(out, format->generation_prompt);
    else if (format->ends_with_eos)
        put(out, chat->eos);
    return PHI3_OK;
}

static phi3_status write_chat(const conversation *chat, char **text, size_t *size,
                              phi3_error *error)
{
    writer out = {0};
    PHI3_TRY(put_chat(&out, chat, error));
    char *memory = out.size == SIZE_MAX ? NULL : malloc(out.size + 1);
    if (memory == NULL)
        return phi3_fail_memory(error, "a prompt");
    out = (writer){.text = memory};
    phi3_status status = put_chat(&out, chat, error);
    if (status != PHI3_OK) {
        free(memory);
        return status;
    }
    memory[out.size] = '\0';
    *text = memory;
    *size = out.size;
    return PHI3_OK;
}

/* ---- The public call -------------------------------------------------------------------------- */

phi3_status phi3_chat_render_template(const char *source, phi3_text bos, phi3_text eos,
                                      const phi3_message *messages, size_t count,
                                      const phi3_chat_options *options, char **text, size_t *size,
                                      phi3_error *error)
{
    static const phi3_chat_options defaults = {0};
    const char *advice = "In C, write the prompt as text and encode that.";
    if (options == NULL)
        options = &defaults;
    if (text == NULL || size == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "text or size is NULL");
    if (source == NULL)
        return phi3_fail(
            error, PHI3_ERROR_UNSUPPORTED,
            "the tokenizer has no chat template. %s In Python, give apply_chat_template "
            "a chat_template.",
            advice);
    PHI3_TRY(check_chat(messages, count, options, error));
    const phi3_chat_format *format = phi3_chat_find_format(source);
    if (format == NULL)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "the tokenizer's chat template is none of those rendered natively (Phi-3, "
                         "Phi-3.5, Phi-4, Phi-4-mini, ChatML). %s In Python, apply_chat_template "
                         "renders it with jinja2: `pip install phi3[templates]`.",
                         advice);
    conversation chat = {format, bos, eos, messages, count, *options};
    return write_chat(&chat, text, size, error);
}

/* The spelling of the token that plays a role; empty when none does. */
static phi3_text special_token(const phi3_tokenizer *tokenizer, phi3_special_token role)
{
    phi3_text token = {0};
    int32_t id = phi3_tokenizer_special_id(tokenizer, role);
    if (id >= 0)
        token.text = phi3_tokenizer_id_to_token(tokenizer, id, &token.size);
    return token;
}

phi3_status phi3_chat_render(const phi3_tokenizer *tokenizer, const phi3_message *messages,
                             size_t count, const phi3_chat_options *options, char **text,
                             size_t *size, phi3_error *error)
{
    if (tokenizer == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "tokenizer is NULL");
    return phi3_chat_render_template(
        phi3_tokenizer_chat_template(tokenizer), special_token(tokenizer, PHI3_TOKEN_BOS),
        special_token(tokenizer, PHI3_TOKEN_EOS), messages, count, options, text, size, error);
}
