--- What a pipeline can be given: tells chats from lists of prompts.
local calls = require "phi3.calls"

local M = {}

-- One conversation, told apart from a list of prompts.
local Chat = {}

function M.is_chat(value)
  return getmetatable(value) == Chat
end

local function is_message(value)
  return type(value) == "table" and not calls.is_absent(value.role)
    and not calls.is_absent(value.content)
end

local function looks_like_chat(value)
  return type(value) == "table" and is_message(value[1])
end

local function new_chat(messages)
  for _, message in ipairs(messages) do
    if not is_message(message) then
      calls.fail("invalid argument", "every message of a chat needs a 'role' and a 'content'")
    end
  end
  return setmetatable({messages = messages}, Chat)
end

--- Whether the model goes on with the last message of a chat rather than answers it.
function M.continues(chat, wish)
  if wish ~= nil then
    return wish
  end
  return chat.messages[#chat.messages].role == "assistant"
end

local function prompt_of(value)
  return looks_like_chat(value) and new_chat(value) or value
end

local function each_of(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- A function of prompts is an iterator of them; one of messages is one chat.
local function recognise_function(next_value)
  local first = next_value()
  if first == nil then
    return "list", each_of {}
  end
  if is_message(first) then
    local messages = {first}
    for message in next_value do
      messages[#messages + 1] = message
    end
    return "one", new_chat(messages)
  end
  return "iterator", function()
    local value = first
    first = nil
    if value == nil then
      value = next_value()
    end
    return prompt_of(value)
  end
end

--- "one" and a string or chat, "list" or "iterator" and a function that gives these.
function M.recognise(inputs)
  if type(inputs) == "function" then
    return recognise_function(inputs)
  end
  if type(inputs) ~= "table" then
    return "one", inputs
  end
  if #inputs == 0 and next(inputs) == nil then
    calls.fail("invalid argument", "an empty list holds no prompt")
  end
  if is_message(inputs[1]) then
    return "one", new_chat(inputs)
  end
  if #inputs == 0 then
    return "one", inputs -- a table with names, which is no prompt
  end
  local prompts, all_chats = {}, true
  for i, value in ipairs(inputs) do
    all_chats = all_chats and looks_like_chat(value)
    prompts[i] = value
  end
  if all_chats then
    for i, value in ipairs(prompts) do
      prompts[i] = new_chat(value)
    end
  end
  return "list", each_of(prompts)
end

return M
