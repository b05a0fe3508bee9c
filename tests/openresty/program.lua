local phi3 = require "phi3"
phi3.manual_seed(0)
local model = assert(phi3.AutoModelForCausalLM.from_pretrained("smollm2-135m", {device_map = "cpu"}))
local tokenizer = assert(phi3.AutoTokenizer.from_pretrained("smollm2-135m"))
local messages = {
  {role = "system", content = "You are a helpful AI assistant."},
  {role = "user", content = "What is the capital of France, and what is it known for?"},
}
local pipe = phi3.pipeline("text-generation", {model = model, tokenizer = tokenizer})
local generation_args = {
  max_new_tokens = 60, return_full_text = false, temperature = 0.0, do_sample = false,
}
local output = assert(pipe(messages, generation_args))
print(output[1].generated_text)
for piece in pipe:stream(messages, generation_args) do io.write(piece) end
