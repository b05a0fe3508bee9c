--- Random numbers of sampling: the generator that every sampling call draws from.
-- It is PyTorch's: phi3.manual_seed(0) draws the tokens that transformers draws after
-- torch.manual_seed(0).
local core = require "phi3.core"

local M = {}

M.default_generator = assert(core.random()) -- an unseeded program must not repeat itself

--- Starts the default generator over from a seed, as torch.manual_seed does, and returns it.
function M.manual_seed(seed)
  M.default_generator:seed(seed)
  return M.default_generator
end

--- The same by the name that transformers has for it.
function M.set_seed(seed)
  M.manual_seed(seed)
end

return M
