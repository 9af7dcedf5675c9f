-- Every request is another person's signature. From the environment:
--   PETITION  the slug; with SPREAD > 1 its beginning, to which 0 .. SPREAD - 1 is added in turn
--   SPREAD    number of petitions
--   BASE      part of every e-mail address: makes this run's people different from all other runs'
--   REPORT    path of report.lua
dofile(os.getenv("REPORT"))

local petition = os.getenv("PETITION") or "p0"
local spread = tonumber(os.getenv("SPREAD") or "1")
local base = os.getenv("BASE") or "0"
local threads = 0
local n = 0

local given = {"Amina", "José", "Siobhán", "Wanjiru", "Łukasz", "Mei", "Noah", "Priya", "Fatoumata", "Ana", "Jürgen"}
local family = {"Okello", "García", "Murphy", "Mwangi", "Nowak", "Chen", "Smith", "Sharma", "Diallo", "Silva",
  "Müller", "Rossi", "Ivanova"}
local country = {"GB", "FR", "ES", "US", "DE", "UG", "KE"}

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function request()
  n = n + 1
  local slug = spread > 1 and petition .. (n % spread) or petition
  local body = '{"given_name":"' .. given[n % 11 + 1] .. '","family_name":"' .. family[n % 13 + 1]
    .. '","email":"person.' .. base .. '.' .. id .. '.' .. n .. '@example.org","country":"'
    .. country[n % 7 + 1] .. '"}'
  return "POST /v1/petitions/" .. slug .. "/signatures HTTP/1.1\r\nHost: bench\r\n"
    .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end
