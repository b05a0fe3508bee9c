---@meta phi3
-- What `require "phi3"` offers, for editors (lua-language-server, EmmyLua); it is never run.

---@class phi3
---@field null userdata what None is in a table: it turns a setting off; the null of cjson and ngx
---@field _VERSION string
local phi3 = {}

---@alias phi3.Message {role: string, content: string, tools?: string}
---@alias phi3.Chat phi3.Message[]
---@alias phi3.Ids integer[]

---@class phi3.LoadOptions
---@field device_map? string|integer|table "auto", "cpu", "reference", "cuda", "cuda:N", N; a device for each module
---@field max_memory? string|integer|table "6GiB", {[0] = "6GiB", cpu = "30GiB"}
---@field dtype? string "auto"; "float32" asks for float32 arithmetic throughout
---@field torch_dtype? string the same
---@field compute_dtype? "float32"|"mixed"|"auto"
---@field kv_cache_dtype? "auto"|"float32"|"float16"|"bfloat16"|"int8"
---@field quantization? string "q4_0", "q4_k_m", "q8_0", ...
---@field packed_dir? string a directory for packed weights
---@field n_threads? integer 0: one per physical core
---@field progress? fun(done: number): boolean? true stops the load
---@field revision? string
---@field gguf_file? string

---@class phi3.GenerationArguments
---@field max_new_tokens? integer
---@field max_length? integer
---@field min_new_tokens? integer
---@field min_length? integer
---@field do_sample? boolean
---@field temperature? number
---@field top_k? integer
---@field top_p? number
---@field min_p? number
---@field repetition_penalty? number
---@field eos_token_id? integer|integer[]
---@field pad_token_id? integer
---@field bos_token_id? integer
---@field stop_strings? string|string[]
---@field num_return_sequences? integer
---@field use_cache? boolean
---@field return_dict_in_generate? boolean
---@field output_scores? boolean
---@field output_logits? boolean

---@class phi3.GenerateArguments: phi3.GenerationArguments
---@field generation_config? phi3.GenerationConfig
---@field attention_mask? integer[]|integer[][]
---@field past_key_values? phi3.Cache|phi3.Cache[]
---@field streamer? {put: function, finish: function}
---@field tokenizer? phi3.Tokenizer needed for stop_strings
---@field interrupt? fun(): boolean? asked at once and every 20 ms; true stops the call
---@field output_timings? boolean
---@field n_threads? integer

---@class phi3.PipelineArguments: phi3.GenerateArguments
---@field return_full_text? boolean
---@field return_tensors? boolean
---@field continue_final_message? boolean
---@field prefix? string
---@field stop_sequence? string|string[]
---@field skip_special_tokens? boolean
---@field batch_size? integer
---@field truncation? boolean
---@field add_special_tokens? boolean
---@field handle_long_generation? "hole"
---@field tokenizer_encode_kwargs? table

---@class phi3.Cache: userdata
local Cache = {}
---@return phi3.Cache? cache, string? message, string? code
function Cache:fork() end
---@param length integer
function Cache:truncate(length) end
function Cache:reset() end
---@return integer
function Cache:get_seq_length() end
---@return phi3.Ids
function Cache:ids() end
---@return integer
function Cache:nbytes() end
function Cache:close() end

---@class phi3.Logits: userdata
---@field [integer] phi3.Logits|number
local Logits = {}
---@return table
function Logits:tolist() end
---@return integer[]
function Logits:shape() end

---@class phi3.Model
---@field config table
---@field generation_config phi3.GenerationConfig
---@field device string where the head is
---@field hf_device_map table<string, string|integer> where each module is; {[""] = device} for one device
---@field dtype string
---@field compute_dtype string
---@field kv_cache_dtype string
---@field name_or_path string
---@overload fun(input_ids: phi3.Ids|phi3.Ids[]|table, options?: table): {logits: phi3.Logits, past_key_values: phi3.Cache?}
local Model = {}
---@param inputs? phi3.Ids|phi3.Ids[]|table
---@param args? phi3.GenerateArguments
---@return phi3.Ids[]|table? sequences, string? message, string? code
function Model:generate(inputs, args) end
---@param path string
---@param options? {progress: function?}
---@return true? done, string? message, string? code
function Model:save_pretrained(path, options) end
---@return phi3.Cache
function Model:new_cache() end
---@return integer
function Model:num_parameters() end
function Model:close() end

---@class phi3.StreamDecoder: userdata
local StreamDecoder = {}
---@param id integer
---@return string? text, string? message, string? code
function StreamDecoder:put(id) end
---@return string? text, string? message, string? code
function StreamDecoder:finish() end

---@class phi3.Tokenizer
---@field vocab_size integer
---@field bos_token string?
---@field bos_token_id integer?
---@field eos_token string?
---@field eos_token_id integer?
---@field unk_token string?
---@field unk_token_id integer?
---@field pad_token string?
---@field pad_token_id integer?
---@field all_special_tokens string[]
---@field all_special_ids integer[]
---@field special_tokens_map table<string, string>
---@field added_tokens_encoder table<string, integer>
---@field additional_special_tokens string[]
---@field padding_side "left"|"right"
---@field truncation_side "left"|"right"
---@field model_max_length number
---@field chat_template string?
---@overload fun(text: string|string[], options?: table): {input_ids: table, attention_mask: table, offset_mapping: table?}
local Tokenizer = {}
---@param text string
---@param options? table
---@return phi3.Ids? ids, string? message, string? code
function Tokenizer:encode(text, options) end
---@param ids integer|phi3.Ids|phi3.Ids[]
---@param options? {skip_special_tokens: boolean?}
---@return string|string[]? text, string? message, string? code
function Tokenizer:decode(ids, options) end
---@param sequences phi3.Ids[]
---@param options? {skip_special_tokens: boolean?}
---@return string[]? texts, string? message, string? code
function Tokenizer:batch_decode(sequences, options) end
---@param text string
---@return string[]? tokens, string? message, string? code
function Tokenizer:tokenize(text) end
---@param conversation phi3.Chat|phi3.Chat[]
---@param options? {add_generation_prompt: boolean?, continue_final_message: boolean?, tokenize: boolean?, return_dict: boolean?}
---@return table|string? prompt, string? message, string? code
function Tokenizer:apply_chat_template(conversation, options) end
---@param tokens string|string[]
---@return integer|integer[]
function Tokenizer:convert_tokens_to_ids(tokens) end
---@param ids integer|integer[]
---@param options? {skip_special_tokens: boolean?}
---@return string|string[]
function Tokenizer:convert_ids_to_tokens(ids, options) end
---@param tokens string[]
---@return string? text, string? message, string? code
function Tokenizer:convert_tokens_to_string(tokens) end
---@return table<string, integer>
function Tokenizer:get_vocab() end
---@param options? {skip_special_tokens: boolean?}
---@return phi3.StreamDecoder? decoder, string? message, string? code
function Tokenizer:stream_decoder(options) end
---@return integer
function Tokenizer:length() end
function Tokenizer:close() end

---@class phi3.Stream
---@field finish_reason "eos"|"stop"|"length"|nil once it has ended
---@field timings table? once it has ended
---@overload fun(): string?
local Stream = {}
function Stream:close() end

---@class phi3.Pipeline
---@field model phi3.Model
---@field tokenizer phi3.Tokenizer
---@field device string
---@field dtype string
---@overload fun(inputs: string|phi3.Chat|string[]|phi3.Chat[]|function, args?: phi3.PipelineArguments): table?, string?, string?
local Pipeline = {}
--- for piece in pipe:stream(messages, args) do io.write(piece) end
---@param inputs string|phi3.Chat
---@param args? phi3.PipelineArguments
---@return phi3.Stream
function Pipeline:stream(inputs, args) end
function Pipeline:reset() end

---@class phi3.GenerationConfig: phi3.GenerationArguments
local GenerationConfig = {}
---@return table
function GenerationConfig:to_dict() end

phi3.AutoModelForCausalLM = {}
---@param name string a path, "smollm2-135m", "ollama://NAME[:TAG]" or "ORGANISATION/NAME"
---@param options? phi3.LoadOptions
---@return phi3.Model? model, string? message, string? code
function phi3.AutoModelForCausalLM.from_pretrained(name, options) end

phi3.AutoTokenizer = {}
---@param name string
---@param options? {revision: string?, gguf_file: string?, padding_side: string?}
---@return phi3.Tokenizer? tokenizer, string? message, string? code
function phi3.AutoTokenizer.from_pretrained(name, options) end

---@param task? "text-generation"
---@param options? table model, tokenizer, device_map, dtype, model_kwargs and defaults for calls
---@return phi3.Pipeline? pipe, string? message, string? code
function phi3.pipeline(task, options) end

---@param values phi3.GenerationArguments
---@return phi3.GenerationConfig? config, string? message, string? code
function phi3.GenerationConfig(values) end

---@param model phi3.Model
---@return phi3.Cache? cache, string? message, string? code
function phi3.Cache(model) end

---@param tokenizer phi3.Tokenizer
---@param options? {skip_prompt: boolean?, skip_special_tokens: boolean?, on_finalized_text: fun(text: string, stream_end: boolean)?}
function phi3.TextStreamer(tokenizer, options) end

---@param name string
---@param path string
---@param type? string "q4_k_m", "q4_0", "q8_0", "f16", ...
---@param options? {overwrite: boolean?, n_threads: integer?, progress: function?}
---@return true? done, string? message, string? code
function phi3.quantize(name, path, type, options) end

---@param seed integer
function phi3.manual_seed(seed) end
---@param seed integer
function phi3.set_seed(seed) end

---@return {version: string, lua: string, backends: table[], cpu_isa: string, n_threads: integer}
function phi3.info() end

---@param options? {device: string?, n_threads: integer?}
---@return table<string, number>? peaks, string? message, string? code
function phi3.measure_peaks(options) end

---@param level "debug"|"info"|"warning"|"error"|"silent"
function phi3.set_verbosity(level) end
---@param callback? fun(level: string, message: string) nil: back to the standard error stream
function phi3.set_log_callback(callback) end

return phi3
