--- Tokenizers beyond the shared cases: attributes, padding, offsets, templates that are refused.
local phi3 = require "phi3"
local support = require "support"

describe("a tokenizer", function()
  local tokenizer

  before_each(function()
    tokenizer = assert(phi3.AutoTokenizer.from_pretrained(support.names.tiny))
  end)

  after_each(function()
    tokenizer:close()
  end)

  it("knows its vocabulary", function()
    assert.are.equal(32000, tokenizer.vocab_size)
    assert.are.equal(32011, tokenizer:length())
    assert.are.equal(1, tokenizer.bos_token_id)
    assert.are.equal("<s>", tokenizer.bos_token)
    assert.are.equal(32000, tokenizer.eos_token_id)
    assert.are.equal("<|endoftext|>", tokenizer.pad_token)
    assert.are.equal("<unk>", tokenizer.special_tokens_map.unk_token)
    assert.are.equal(32007, tokenizer.added_tokens_encoder["<|end|>"])
    assert.are.equal(32007, tokenizer:convert_tokens_to_ids "<|end|>")
    assert.are.same({32007, 0}, tokenizer:convert_tokens_to_ids {"<|end|>", "no such token"})
    assert.are.equal("<|end|>", tokenizer:convert_ids_to_tokens(32007))
    assert.is_nil(tokenizer:convert_ids_to_tokens(99999))
    assert.are.same({1, 32000, 0}, {
      tokenizer.all_special_ids[1], tokenizer.all_special_ids[2], tokenizer.all_special_ids[3],
    })
    local vocabulary = tokenizer:get_vocab()
    assert.are.equal(32010, vocabulary["<|user|>"])
    assert.are.equal(2, tokenizer:get_added_vocab()["</s>"])
  end)

  it("lets special tokens be changed", function()
    tokenizer.pad_token = "<|end|>"
    assert.are.equal(32007, tokenizer.pad_token_id)
    tokenizer.pad_token_id = 5
    assert.are.equal(tokenizer:convert_ids_to_tokens(5), tokenizer.pad_token)
    tokenizer.pad_token = nil
    assert.is_nil(tokenizer.pad_token_id)
    assert.has_error(function() tokenizer.pad_token = "no such token" end)
    assert.has_error(function() tokenizer.vocab_size = 3 end)
    local none, message, code = tokenizer({"a", "b c"}, {padding = true})
    assert.is_nil(none)
    assert.is_truthy(message:find("does not have a padding token", 1, true))
    assert.are.equal("invalid argument", code)
  end)

  it("pads and truncates", function()
    local batch = tokenizer({"a", "b c d"}, {padding = true})
    assert.are.same({{0, 0, 1}, {1, 1, 1}}, batch.attention_mask)
    assert.are.equal(32000, batch.input_ids[1][1])
    batch = tokenizer({"a", "b c d"}, {padding = "longest", padding_side = "right"})
    assert.are.same({1, 0, 0}, batch.attention_mask[1])
    assert.are.equal(8, #tokenizer("a", {padding = "max_length", max_length = 8}).input_ids)
    assert.are.equal(4, #tokenizer({"a", "b c"}, {padding = true, pad_to_multiple_of = 4}).input_ids[2])
    local ids = tokenizer:encode "one two three four"
    assert.are.same({ids[1], ids[2]}, tokenizer:encode("one two three four", {max_length = 2}))
    tokenizer.truncation_side = "left"
    assert.are.same({ids[#ids]}, tokenizer:encode("one two three four", {truncation = true, max_length = 1}))
    assert.is_nil(tokenizer("a", {return_attention_mask = false}).attention_mask)
    local none, message = tokenizer("a", {truncation = "somehow"})
    assert.is_nil(none)
    assert.are.equal("'somehow' is not a way to truncate", message)
    none, message = tokenizer("a", {padding = "somehow"})
    assert.is_nil(none)
    assert.are.equal("'somehow' is not a way to pad", message)
  end)

  it("says where tokens stood, for string.sub", function()
    local text = "Hi there 日本 😀x"
    local encoded = tokenizer(text, {return_offsets_mapping = true})
    local joined, last = "", 0
    for _, place in ipairs(encoded.offset_mapping) do
      if place[1] > last then
        joined, last = joined .. text:sub(place[1], place[2]), place[2]
      end
    end
    assert.are.equal(text, joined)
    assert.are.same({1, 2}, encoded.offset_mapping[1])
  end)

  it("reads control tokens of strangers as plain text when told to", function()
    assert.are.same({32007}, tokenizer:encode "<|end|>")
    local ids = tokenizer:encode("<|end|>", {split_special_tokens = true})
    assert.is_true(#ids > 1)
    assert.are.equal("<|end|>", tokenizer:decode(ids, {skip_special_tokens = true}))
  end)

  it("tokenizes, decodes batches and streams", function()
    assert.are.equal("<|user|>\n", tokenizer:tokenize("<|user|>\nHi")[1])
    local ids = tokenizer({"Hello world", "Hi"}).input_ids
    assert.are.same({"Hello world", "Hi"}, tokenizer:batch_decode(ids))
    assert.are.same({"Hello world", "Hi"}, tokenizer:decode(ids))
    assert.are.equal("Hello", tokenizer:decode(tokenizer:encode("Hello")[1]))
    local decoder = tokenizer:stream_decoder()
    local text = ""
    for _, id in ipairs(tokenizer:encode "a 😀 b") do
      text = text .. decoder:put(id)
    end
    assert.are.equal("a 😀 b", text .. decoder:finish())
    assert.are.equal("Hello world",
      tokenizer:convert_tokens_to_string(tokenizer:convert_ids_to_tokens(ids[1])))
  end)

  it("renders chats one by one or many at once", function()
    local texts = tokenizer:apply_chat_template({support.user, support.user}, {tokenize = false})
    assert.are.equal(2, #texts)
    assert.are.equal("<|user|>\nHi<|end|>\n<|endoftext|>", texts[1])
    local encoded = tokenizer:apply_chat_template(support.user)
    assert.are.same({32010, 6324, 32007, 32000}, {
      encoded.input_ids[1], 6324, encoded.input_ids[3], encoded.input_ids[4],
    })
    assert.are.equal(4, #encoded.attention_mask)
  end)

  it("refuses templates that are not built in, and says what to do", function()
    local text, message, code = tokenizer:apply_chat_template(support.user,
      {chat_template = "{{ messages[0]['content'] }}"})
    assert.is_nil(text)
    assert.are.equal("unsupported", code)
    assert.is_truthy(message:find("unsupported template", 1, true))
    assert.is_truthy(message:find("Build the prompt yourself", 1, true))
    tokenizer.chat_template = "{{ 1 }}"
    text, message = tokenizer:apply_chat_template(support.user)
    assert.is_nil(text)
    assert.is_truthy(message:find("unsupported template", 1, true))
  end)

  it("refuses messages that are none", function()
    for _, case in ipairs {
      {{{role = "user"}}, "a chat message has no 'content'", "invalid argument"},
      {{{content = "x"}}, "a chat message has no 'role'", "invalid argument"},
      {{{role = "user", content = 5}}, "the content of a chat message must be a string, not a number",
        "wrong type"},
      {{{role = "user", content = phi3.null}}, "a chat message has no 'content'", "invalid argument"},
      {{5}, "a chat message must be a table, not a number", "wrong type"},
      {{{role = "us\0er", content = "x"}}, "a chat message's role or tools holds a NUL",
        "invalid argument"},
    } do
      local text, message, code = tokenizer:apply_chat_template(case[1])
      assert.is_nil(text)
      assert.are.equal(case[2], message)
      assert.are.equal(case[3], code)
    end
  end)

  it("renders the tools of a Phi-4-mini, which are JSON text", function()
    local message = {role = "user", content = "Hi", tools = "[]"}
    assert.is_truthy(tokenizer:apply_chat_template({message}, {tokenize = false}))
    local text, reason = tokenizer:apply_chat_template({{role = "user", content = "Hi", tools = {}}})
    assert.is_nil(text)
    assert.are.equal("the tools of a chat message must be a string, not a table", reason)
  end)
end)
