"""
The Lua texts: constant, free of data, and the same for Redis 6.2 to 8 and Valkey.

Every decision about a record is made here, in the server, in one step. Versions are compared as
digits, never as numbers: Lua's numbers are exact to 2^53 only.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1


@dataclass(frozen=True, slots=True)
class Script:
    """
    A text and the digest under which the server keeps it.
    """

    text: str
    sha: str

    @classmethod
    def of(cls, *parts: str) -> Script:
        """
        One script of several parts.
        """
        text = "\n".join(part.strip("\n") for part in parts)
        # Not for security: it is how EVALSHA names a script.
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


MAX_RECORDS = 100
"""Records in one call at most: the server serves nobody else for about 1 ms."""

MAX_BYTES = 512 * 1024
"""Bytes in one call at most, unless a single record is larger."""

GENERATION_DIGITS = 12
"""A version of at most this many digits orders nothing; equal to the model's, proven by a test."""

_DECIDE = """
-- A version: 1 to 30 digits without a leading zero. Not ours otherwise.
local function is_version(text)
  return text and #text <= 30 and (text == '0' or string.find(text, '^[1-9]%d*$'))
end

local function is_digest(text)
  return text and #text == 16 and not string.find(text, '[^0-9a-f]')
end

-- By length, then by bytes. Lua compares strings by the locale; digits sort alike in all of them.
local function is_newer(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function quoted(name)
  return '"' .. string.gsub(name, '\\\\', '\\\\\\\\') .. '"'
end

-- Version and digest at the head of a string record, `{"_v":"12","_h":"0123456789abcdef"`, or
-- version and true of a tombstone, `{"_v":"12","_t":`. The head alone is read, and no JSON parsed:
-- a parser would bend its numbers.
local function head_of(key, names)
  local start = '{' .. quoted(names[1]) .. ':"'
  local digest_name = ',' .. quoted(names[2]) .. ':"'
  local tombstone_name = ',' .. quoted(names[3]) .. ':'
  local text = redis.call('GETRANGE', key, 0, #start + #digest_name + #tombstone_name + 64)
  if string.sub(text, 1, #start) ~= start then return end
  local version, at = string.match(text, '^(%d+)"()', #start + 1)
  if not version then return end
  if string.sub(text, at, at + #tombstone_name - 1) == tombstone_name then
    return version, nil, true
  end
  if string.sub(text, at, at + #digest_name - 1) ~= digest_name then return end
  local digest = string.match(text, '^([0-9a-f]+)"[,}]', at + #digest_name)
  return version, digest, false
end

-- Version, digest and tombstone of what is under a key; nothing where it cannot be ours.
local function held_by(key, kind, names)
  if kind == 'string' then return head_of(key, names) end
  if kind ~= 'hash' then return end
  local held = redis.call('HMGET', key, names[1], names[2], names[3])
  return held[1], held[2], held[3]
end

local WRITTEN, REPLACED, SAME, STALE, CONFLICT, COLLISION = '0', '1', '2', '3', '4', '5'

-- What becomes of a record, the version that is there, and the type of it.
local function decide(key, version, digest, names)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return WRITTEN end

  local found, held_digest, tombstone = held_by(key, kind, names)
  if not is_version(found) or not (tombstone or is_digest(held_digest)) then return COLLISION end

  if found ~= version then
    if is_newer(version, found) then return REPLACED, found, kind end
    return STALE, found
  end
  if held_digest == digest and not tombstone then return SAME, found end
  -- Without capture versions order nothing: the later run of the same mapping is right.
  if #version <= 12 then return REPLACED, found, kind end
  return CONFLICT, found
end

-- A record that cannot be written whole is not begun.
local function is_sound(version, digest, count, last)
  return is_version(version) and is_digest(digest) and count and count >= 0 and last <= #ARGV
end

-- What a record of this type holds: pairs, or one text that says the same version and digest.
local function is_whole(kind, version, digest, count, first, names)
  if kind == 'hash' then return count % 2 == 0 end
  if count ~= 1 then return false end
  local head = '{' .. quoted(names[1]) .. ':"' .. version .. '",'
    .. quoted(names[2]) .. ':"' .. digest .. '"'
  return string.sub(ARGV[first], 1, #head) == head
end
"""

_PUT = """
-- The fields in steps: unpack fails at 8,000 values.
local function put(kind, key, version, digest, names, first, last)
  if kind == 'string' then
    redis.call('SET', key, ARGV[first])
    return
  end
  local stop = math.min(first + 999, last)
  redis.call('HSET', key, names[1], version, names[2], digest, unpack(ARGV, first, stop))
  while stop < last do
    first = stop + 1
    stop = math.min(first + 999, last)
    redis.call('HSET', key, unpack(ARGV, first, stop))
  end
end
"""

_FENCED = """
-- Nothing is written unless the fence is exactly the one that the caller was given.
local fence = redis.pcall('HMGET', KEYS[1], 'run', 'mode', 'epoch')
if fence.err then
  if string.find(fence.err, 'WRONGTYPE', 1, true) then return {'LOST', ''} end
  return fence
end
if fence[1] ~= ARGV[3] then return {'LOST', fence[1] or ''} end
if fence[2] ~= ARGV[1] or fence[3] ~= ARGV[2] then
  return {'FENCED', fence[2] or '', fence[3] or ''}
end
"""

_WRITE = """
local names = {ARGV[4], ARGV[5], ARGV[6]}
local kind = ARGV[7]
local outcomes, at, dirty = {}, 8, false
if kind ~= 'hash' and kind ~= 'string' then
  return redis.error_reply('MALFORMED type of record')
end
local reply = {'OK', ''}

for i = 2, #KEYS do
  local key, version, digest, count = KEYS[i], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  local last = first + (count or 0) - 1
  if not is_sound(version, digest, count, last)
    or not is_whole(kind, version, digest, count, first, names) then
    return redis.error_reply('MALFORMED record in a batch')
  end

  local outcome, found, there = decide(key, version, digest, names)
  if outcome == REPLACED and kind == 'hash' then
    -- Out of memory, replica, failed save, missing replicas: a script is checked for them at its
    -- first write only. That write is one that changes nothing and asks for all of them, so that
    -- UNLINK, which is allowed when memory is full, never takes away what HSET cannot bring back.
    if not dirty and there == 'hash' then redis.call('HSET', key, names[1], found) end
    if not dirty and there == 'string' then redis.call('SETRANGE', key, 0, '{') end
    redis.call('UNLINK', key)
  end
  if outcome == WRITTEN or outcome == REPLACED then
    -- SET takes the place of whatever is there, in one step.
    put(kind, key, version, digest, names, first, last)
    dirty = true
  end
  if outcome == STALE or outcome == CONFLICT then reply[#reply + 1] = found end
  outcomes[#outcomes + 1] = outcome
  at = last + 1
end

reply[2] = table.concat(outcomes)
return reply
"""

_DRY = """
local names = {ARGV[1], ARGV[2], ARGV[3]}
local outcomes, at = {}, 4
local reply = {'OK', ''}

for i = 1, #KEYS do
  local version, digest, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local last = at + 2
  if not is_sound(version, digest, count, last) then
    return redis.error_reply('MALFORMED record in a batch')
  end

  local outcome, found = decide(KEYS[i], version, digest, names)
  if outcome == STALE or outcome == CONFLICT then reply[#reply + 1] = found end
  outcomes[i] = outcome
  at = last + 1
end

reply[2] = table.concat(outcomes)
return reply
"""

_MEASURE = """
-- What a write costs: the same steps for each record, under one scratch key that never shows.
-- A user who may not take it away again is refused here, before it is there.
redis.call('UNLINK', KEYS[1])
local names = {ARGV[1], ARGV[2], ARGV[3]}
local kind = ARGV[4]
local at = 5
while at <= #ARGV do
  local version, digest, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first = at + 3
  local last = first + (count or 0) - 1
  if not is_sound(version, digest, count, last)
    or not is_whole(kind, version, digest, count, first, names) then
    return redis.error_reply('MALFORMED record in a batch')
  end
  decide(KEYS[1], version, digest, names)
  put(kind, KEYS[1], version, digest, names, first, last)
  redis.call('UNLINK', KEYS[1])
  at = last + 1
end
return 'OK'
"""

_BEGIN = """
local run, expected, start_over = ARGV[1], ARGV[2], ARGV[3] == '1'
local generation, revision, fingerprint = ARGV[4], ARGV[5], ARGV[6]

local function state(word)
  local reply = redis.call(
    'HMGET', KEYS[1], 'mode', 'epoch', 'run', 'floor', 'generation', 'revision', 'fingerprint')
  for i = 1, 7 do reply[i] = reply[i] or '' end
  table.insert(reply, 1, word)
  return reply
end

local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  if expected ~= '' and not start_over then return {'LOST'} end
  redis.call('HSET', KEYS[1], 'mode', 'fwd', 'epoch', '1', 'run', run, 'floor', '0',
    'generation', generation, 'revision', revision, 'fingerprint', fingerprint)
  return state('OK')
end
if kind ~= 'hash' then return {'FOREIGN', kind} end

local held = redis.call('HMGET', KEYS[1], 'mode', 'epoch', 'run')
if not held[1] or not held[3] or not is_version(held[2]) then return {'FOREIGN', kind} end
if held[1] ~= 'fwd' then return state('CLOSED') end
-- Our own run may be there already: an answer was lost and we ask again.
if held[3] ~= expected and held[3] ~= run and not start_over then return state('TAKEN') end

redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'run', run,
  'generation', generation, 'revision', revision, 'fingerprint', fingerprint)
return state('OK')
"""

WRITE = Script.of(_DECIDE, _PUT, _FENCED, _WRITE)
"""
Compare-and-set of a batch, behind the fence.

KEYS: fence, record keys. ARGV: mode, epoch, run, names of version, digest and tombstone, type of
the records (hash or string), then for each record version, digest, count of the values that follow,
and those: name, value, ... of a hash, or the one text of a string record.

Reply: OK, one digit of `Outcome` a record, the version found for each STALE and CONFLICT in order;
or LOST and the run that is there; or FENCED with mode and epoch that are there.
"""

DRY = Script.of(_DECIDE, _DRY)
"""
The decisions of `WRITE` without a write and without a fence.

KEYS: record keys. ARGV: three names, then for each record version, digest, 0. Reply as of `WRITE`.
"""

MEASURE = Script.of(_DECIDE, _PUT, _MEASURE)
"""
The steps of a write under one scratch key.

KEYS: scratch. ARGV: three names, type, then records as of `WRITE`.
"""

BEGIN = Script.of(_DECIDE, _BEGIN)
"""
Create the fence, or take it over and raise its epoch.

KEYS: fence. ARGV: run, run expected there ('' for none), 1 to start over, generation, revision,
fingerprint. Reply: OK, TAKEN or CLOSED with the seven fields that are there; LOST; or FOREIGN.
"""

ALL = (WRITE, DRY, MEASURE, BEGIN)
"""Every script there is."""
