-- Every request confirms another signature. From the environment:
--   TOKENS  path of a file of tokens, each on a line, all of one length
--   FIRST   number of the first to be used
--   REPORT  path of report.lua
-- When they are used up, requests carry an empty token and are refused. One thread only: each would use the same.
dofile(os.getenv("REPORT"))

local tokens

function init()
  tokens = assert(io.open(os.getenv("TOKENS"), "r"))
  local line = #assert(tokens:read("*l"), "there are no tokens") + 1
  tokens:seek("set", line * tonumber(os.getenv("FIRST")))
end

function request()
  local body = '{"token":"' .. (tokens:read("*l") or "") .. '"}'
  return "POST /v1/confirmations HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "
    .. #body .. "\r\n\r\n" .. body
end
