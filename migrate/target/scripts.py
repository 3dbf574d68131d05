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

_HELD = """
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

-- Whether a part of a text stands at a place, and where it ends.
local function stands(text, at, part)
  if string.sub(text, at, at + #part - 1) == part then return at + #part end
end

-- Version, digest and expiry at the head of a string record,
-- `{"_v":"12","_h":"0123456789abcdef","_e":"1700000000000"`, or version and true of a tombstone,
-- `{"_v":"12","_t":`. The head alone is read, and no JSON parsed: a parser would bend its numbers.
local function head_of(key, names)
  local start = '{' .. quoted(names[1]) .. ':"'
  local digest_name = ',' .. quoted(names[2]) .. ':"'
  local tombstone_name = ',' .. quoted(names[3]) .. ':'
  local expires_name = ',' .. quoted(names[5]) .. ':"'
  local text = redis.call('GETRANGE', key, 0,
    #start + #digest_name + #tombstone_name + #expires_name + 96)
  if not stands(text, 1, start) then return end
  local version, at = string.match(text, '^(%d+)"()', #start + 1)
  if not version then return end
  if stands(text, at, tombstone_name) then return version, nil, true end
  local digest_at = stands(text, at, digest_name)
  if not digest_at then return end
  local digest, after = string.match(text, '^([0-9a-f]+)"()[,}]', digest_at)
  local expires_at = after and stands(text, after, expires_name)
  local expires = expires_at and string.match(text, '^(%d+)"', expires_at)
  return version, digest, false, nil, expires
end

-- Version, digest, tombstone, entries and, of a string record, expiry of what is under a key;
-- nothing where it cannot be ours.
local function held_by(key, kind, names)
  if kind == 'string' then return head_of(key, names) end
  if kind ~= 'hash' then return end
  local held = redis.call('HMGET', key, names[1], names[2], names[3], names[4])
  return held[1], held[2], held[3], held[4]
end

-- The entries that a record lists: letter of the kind, length, colon, key. Nothing where the text
-- is not such a list.
local function listed(text)
  local found, at = {}, 1
  while at <= #text do
    local kind, length, from = string.match(text, '^([usz])(%d+):()', at)
    if not kind or from + length - 1 > #text then return {} end
    found[#found + 1] = {kind, string.sub(text, from, from + length - 1)}
    at = from + length
  end
  return found
end

local function lists(text, kind, key)
  for _, entry in ipairs(listed(text)) do
    if entry[1] == kind and entry[2] == key then return true end
  end
  return false
end

-- Take a record's own entry out of a lookup, and nobody else's.
local function release(kind, key, record)
  local there = redis.call('TYPE', key).ok
  if kind == 'u' and there == 'string' then
    if redis.call('GETRANGE', key, 0, #record) == record then redis.call('UNLINK', key) end
  elseif kind == 's' and there == 'set' then
    redis.call('SREM', key, record)
  elseif kind == 'z' and there == 'zset' then
    redis.call('ZREM', key, record)
  end
end
"""

_DECIDE = """
local WRITTEN, REPLACED, SAME, STALE, CONFLICT = '0', '1', '2', '3', '4'
local COLLISION, EXPIRED, DUPLICATE, ADOPTED = '5', '6', '7', '8'

-- What becomes of a record: outcome, version that is there, type of it, its entries and expiry.
local function decide(key, version, digest, names)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return WRITTEN end

  local found, held_digest, tombstone, entries, expires = held_by(key, kind, names)
  if not is_version(found) or not (tombstone or is_digest(held_digest)) then
    return COLLISION, nil, kind
  end

  if found ~= version then
    if is_newer(version, found) then return REPLACED, found, kind, entries, expires end
    return STALE, found
  end
  if held_digest == digest and not tombstone then return SAME, found, kind, entries, expires end
  -- Without capture versions order nothing: the later run of the same mapping is right.
  if #version <= 12 then return REPLACED, found, kind, entries, expires end
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

-- Whether a record is of an earlier revision of the mapping, or of an earlier capture: this run
-- will replace or remove it. Between rows of one capture versions say nothing.
local function is_of_earlier(found, version)
  if #version <= 12 then return is_newer(version, found) end
  local theirs = #found > 12 and string.sub(found, 1, -13) or '0'
  return is_newer(string.sub(version, 1, -13), theirs)
end

-- The version of a record that says itself that it has an entry in a lookup.
local function claims(record, kind, key, names)
  -- What it names may be in another slot of a Cluster, where we may not look: no record of ours.
  if redis.pcall('TYPE', record).ok ~= 'hash' then return end
  local held = redis.call('HMGET', record, names[1], names[3], names[4])
  if is_version(held[1]) and not held[2] and held[3] and lists(held[3], kind, key) then
    return held[1]
  end
end

-- Whether a further key may name this record: COLLISION or DUPLICATE where it may not. A key that
-- is there belongs to the lookup if what it holds is a key of this mapping's records, by its name
-- or by what the record says.
local function refused(kind, key, record, version, prefix, names)
  local there = redis.call('TYPE', key).ok
  if there == 'none' then return end
  local member
  if kind == 'u' and there == 'string' then
    member = redis.call('GETRANGE', key, 0, 1023)
  elseif kind == 's' and there == 'set' then
    member = redis.call('SRANDMEMBER', key)
  elseif kind == 'z' and there == 'zset' then
    member = redis.call('ZRANGE', key, 0, 0)[1]
  end
  if not member then return COLLISION end
  if kind ~= 'u' and stands(member, 1, prefix) or member == record then return end
  local claimed = claims(member, kind, key, names)
  if not claimed and not stands(member, 1, prefix) then return COLLISION end
  if kind == 'u' and claimed and not is_of_earlier(claimed, version) then return DUPLICATE end
end

-- The first entry of a record that is refused, and which one it is, counted from 0.
local function first_refused(record, version, entries, prefix, names)
  for i, entry in ipairs(entries) do
    if entry[2] ~= '' then
      local why = refused(entry[1], entry[2], record, version, prefix, names)
      if why then return why, i - 1 end
    end
  end
end

-- The entries of one record among the arguments: kind, key and score of each.
local function entries_at(first, count)
  local found = {}
  for i = first, first + 3 * count - 3, 3 do
    found[#found + 1] = {ARGV[i], ARGV[i + 1], ARGV[i + 2]}
  end
  return found
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_over(expires, grace)
  return expires and expires ~= '' and expires + grace <= now_ms()
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

local function text_of(entries)
  local parts = {}
  for _, entry in ipairs(entries) do
    if entry[2] ~= '' then parts[#parts + 1] = entry[1] .. #entry[2] .. ':' .. entry[2] end
  end
  return table.concat(parts)
end

-- Enter a record into a lookup. What is there already is not written again, nor replicated, but
-- for the unique entry of a new record: a former one may have left it a time to live.
local function enter(kind, key, score, record, same)
  if kind == 'u' then
    if not same or redis.call('GET', key) ~= record then redis.call('SET', key, record) end
  elseif kind == 's' then
    if redis.call('SISMEMBER', key, record) == 0 then redis.call('SADD', key, record) end
  else
    redis.call('ZADD', key, score, record)
  end
end

-- Take a record out of the lookups that it lists and should not be in.
local function release_all(record, text, wanted)
  for _, entry in ipairs(listed(text or '')) do
    if not lists(wanted, entry[1], entry[2]) then release(entry[1], entry[2], record) end
  end
end

-- Enter a record wherever it should be; it lists that first.
local function enter_all(record, entries, held, names, same)
  local wanted = text_of(entries)
  if wanted ~= '' then
    if not same or wanted ~= held then redis.call('HSET', record, names[4], wanted) end
  elseif same and held then
    redis.call('HDEL', record, names[4])
  end
  for _, entry in ipairs(entries) do
    if entry[2] ~= '' then enter(entry[1], entry[2], entry[3], record, same) end
  end
end

-- A record and its unique entries outlive their instant by a grace that is longer than any lease.
local function expire(kind, record, entries, expires, grace, names)
  if not expires or expires == '' then return end
  if kind == 'hash' then redis.call('HSET', record, names[5], expires) end
  local at = string.format('%.0f', expires + grace)
  redis.call('PEXPIREAT', record, at)
  for _, entry in ipairs(entries) do
    if entry[2] ~= '' then redis.call('PEXPIREAT', entry[2], at) end
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

_FORM = """
-- What all records of a call have in common.
local function form_at(first)
  return {
    names = {unpack(ARGV, first, first + 4)},
    kind = ARGV[first + 5],
    expiry = ARGV[first + 6],
    grace = tonumber(ARGV[first + 7]),
    adopted = ARGV[first + 8],
    prefix = ARGV[first + 9],
    lookups = tonumber(ARGV[first + 10]),
  }
end

local NONE = {}

-- One record among the arguments: version, digest, count, first and last of its values, instant and
-- entries; nothing where it is not whole.
local function record_at(at, form)
  local version, digest, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first, expires, entries = at + 3, nil, NONE
  if form.expiry ~= '' then
    expires = ARGV[first]
    first = first + 1
  end
  if form.lookups > 0 then
    entries = entries_at(first, form.lookups)
    first = first + 3 * form.lookups
  end
  local last = first + (count or 0) - 1
  if is_sound(version, digest, count, last) then
    return version, digest, count, first, last, expires, entries
  end
end

-- What is to become of a record: outcome, version there, type there, entries held, expiry to set,
-- and which entry is refused.
local function judge(key, version, digest, expires, entries, form)
  local outcome, found, there, held, held_expires = decide(key, version, digest, form.names)
  if outcome == COLLISION and form.adopted ~= '' then
    if redis.call('EXISTS', form.adopted .. key) == 0 then outcome = ADOPTED end
  end
  if outcome == STALE or outcome == CONFLICT or outcome == COLLISION then return outcome, found end

  if form.expiry ~= '' then
    -- A record that is the same keeps the life that it was given.
    if outcome == SAME and form.expiry == 'fixed' then
      if there == 'hash' then held_expires = redis.call('HGET', key, form.names[5]) end
      expires = held_expires or expires
    end
    if is_over(expires, form.grace) then
      return EXPIRED, found, outcome ~= ADOPTED and there, held
    end
  end
  if form.lookups > 0 then
    local why, which = first_refused(key, version, entries, form.prefix, form.names)
    if why then return why, nil, nil, nil, nil, which end
  end
  return outcome, found, there, held, expires
end

-- What the caller is told besides the outcome: a version, or which entry.
local function tell(reply, outcome, found, which)
  if outcome == STALE or outcome == CONFLICT then
    reply[#reply + 1] = found
  elseif outcome == DUPLICATE or outcome == COLLISION then
    reply[#reply + 1] = which and tostring(which) or ''
  end
end
"""

_WRITE = """
local form = form_at(4)
local deadline = ARGV[15]
if form.kind ~= 'hash' and form.kind ~= 'string' then
  return redis.error_reply('MALFORMED type of record')
end
-- Rows that were read too long ago may be older than a record that has expired since.
if deadline ~= '' and now_ms() > tonumber(deadline) then return {'LATE'} end

local outcomes, at, dirty = {}, 16, false
local reply = {'OK', ''}

-- Out of memory, replica, failed save, missing replicas: a script is checked for them at its first
-- write only. That write is one that changes nothing and asks for all of them, so that UNLINK,
-- which is allowed when memory is full, never takes away what HSET cannot bring back.
local function ask(key, there, found)
  if dirty then return end
  if there == 'hash' then redis.call('HSET', key, form.names[1], found) end
  if there == 'string' then redis.call('SETRANGE', key, 0, '{') end
end

local function store(key, version, digest, first, last, expires, entries)
  put(form.kind, key, version, digest, form.names, first, last)
  if form.lookups > 0 then enter_all(key, entries, nil, form.names) end
  if form.expiry ~= '' then expire(form.kind, key, entries, expires, form.grace, form.names) end
  dirty = true
end

for i = 2, #KEYS do
  local key = KEYS[i]
  local version, digest, count, first, last, instant, entries = record_at(at, form)
  if not version or not is_whole(form.kind, version, digest, count, first, form.names) then
    return redis.error_reply('MALFORMED record in a batch')
  end

  local outcome, found, there, held, expires, which =
    judge(key, version, digest, instant, entries, form)
  if outcome == REPLACED and (form.kind == 'hash' or held) then
    ask(key, there, found)
    -- A command that is refused here leaves the old record, which still lists what it is in.
    if held then release_all(key, held, text_of(entries)) end
    redis.call('UNLINK', key)
  elseif outcome == ADOPTED then
    -- The value that was there keeps its bytes, type and time to live under another name. RENAME
    -- is allowed when memory is full, and would let all that follows be written: SET asks first.
    redis.call('SET', form.adopted .. key, '')
    redis.call('RENAME', key, form.adopted .. key)
  elseif outcome == EXPIRED and there then
    release_all(key, held, '')
    redis.call('UNLINK', key)
  elseif outcome == SAME then
    if held then release_all(key, held, text_of(entries)) end
    if form.lookups > 0 or held then enter_all(key, entries, held, form.names, true) end
    if form.expiry ~= '' then expire(form.kind, key, entries, expires, form.grace, form.names) end
  end
  if outcome == WRITTEN or outcome == REPLACED or outcome == ADOPTED then
    -- SET takes the place of whatever is there, in one step.
    store(key, version, digest, first, last, expires, entries)
  end
  tell(reply, outcome, found, which)
  outcomes[#outcomes + 1] = outcome
  at = last + 1
end

reply[2] = table.concat(outcomes)
return reply
"""

_DRY = """
local form = form_at(1)
local outcomes, at = {}, 12
local reply = {'OK', ''}

for i = 1, #KEYS do
  local version, digest, _, _, last, expires, entries = record_at(at, form)
  if not version then return redis.error_reply('MALFORMED record in a batch') end
  local outcome, found, _, _, _, which = judge(KEYS[i], version, digest, expires, entries, form)
  tell(reply, outcome, found, which)
  outcomes[i] = outcome
  at = last + 1
end

reply[2] = table.concat(outcomes)
return reply
"""

_GIVE_UP = """
local names = {ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]}
local given_up = 0

for i = 2, #KEYS do
  local key, wanted = KEYS[i], ARGV[7 + i]
  local version, digest, _, held = held_by(key, redis.call('TYPE', key).ok, names)
  if is_version(version) and is_digest(digest) and held then
    local kept = {}
    for _, entry in ipairs(listed(held)) do
      if lists(wanted, entry[1], entry[2]) then
        kept[#kept + 1] = entry[1] .. #entry[2] .. ':' .. entry[2]
      else
        release(entry[1], entry[2], key)
        given_up = given_up + 1
      end
    end
    local text = table.concat(kept)
    if text == '' then
      redis.call('HDEL', key, names[4])
    elseif text ~= held then
      redis.call('HSET', key, names[4], text)
    end
  end
end

return {'OK', given_up}
"""

_MEASURE = """
-- What a write costs: the same steps for each record, under one scratch key that never shows.
-- A user who may not take it away again is refused here, before it is there.
redis.call('UNLINK', KEYS[1])
local names = {ARGV[1], ARGV[2], ARGV[3], '', ''}
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
if held[1] == 'purged' and held[3] ~= run then
  -- Nothing of that run is there any more, and whoever still writes for it does not know ours.
  redis.call('HSET', KEYS[1], 'mode', 'fwd', 'run', run, 'floor', '0')
  redis.call('PERSIST', KEYS[1])
  held[1], held[3] = 'fwd', run
end
if held[1] ~= 'fwd' then return state('CLOSED') end
-- Our own run may be there already: an answer was lost and we ask again.
if held[3] ~= expected and held[3] ~= run and not start_over then return state('TAKEN') end

redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'run', run,
  'generation', generation, 'revision', revision, 'fingerprint', fingerprint)
return state('OK')
"""

WRITE = Script.of(_HELD, _DECIDE, _PUT, _FENCED, _FORM, _WRITE)
"""
Compare-and-set of a batch with its entries in lookups, behind the fence.

KEYS: fence, record keys; keys of lookups come from the records, old and new. ARGV: mode, epoch,
run, form, deadline, records.

The form: names of version, digest, tombstone, lookups and expires, type of the records (hash or
string), where they expire (none, fixed or column), grace in ms, prefix under which foreign values
are put aside ('' refuses them), prefix of the keys of this mapping's records, number of lookups.

A deadline in ms of the server's clock, or '': after it nothing is written.

A record: version, digest, count of the values at its end; its instant in ms or '', where records
expire; kind, key and score of its entry in each lookup, with '' for a key where it has none; the
values: name, value, ... of a hash, or the one text of a string record.

Reply: OK, one digit of `Outcome` a record, and in order the version found for each STALE and
CONFLICT, and which entry for each DUPLICATE and COLLISION ('' for the record itself); or LOST and
the run that is there; or FENCED with mode and epoch that are there; or LATE.
"""

DRY = Script.of(_HELD, _DECIDE, _FORM, _DRY)
"""
The decisions of `WRITE` without a write and without a fence.

KEYS: record keys. ARGV: form, then records without values. Reply as of `WRITE`.
"""

GIVE_UP = Script.of(_HELD, _FENCED, _GIVE_UP)
"""
Take records out of the lookups that their rows do not want any more; the records stay as they are.

KEYS: fence, record keys. ARGV: mode, epoch, run, five names, then for each record the list of the
entries that its row wants now. Reply: OK and how many entries were released; or LOST or FENCED.
"""

MEASURE = Script.of(_HELD, _DECIDE, _PUT, _MEASURE)
"""
The steps of a write under one scratch key.

KEYS: scratch. ARGV: three names, type, then version, digest, count and values of each record.
"""

BEGIN = Script.of(_HELD, _BEGIN)
"""
Create the fence, or take it over and raise its epoch.

KEYS: fence. ARGV: run, run expected there ('' for none), 1 to start over, generation, revision,
fingerprint. Reply: OK, TAKEN or CLOSED with the seven fields that are there; LOST; or FOREIGN.
"""

ALL = (WRITE, DRY, GIVE_UP, MEASURE, BEGIN)
"""Every script there is."""
