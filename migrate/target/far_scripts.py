"""
The Lua texts for unique entries in another slot than their record.

Each works in one slot, behind that slot's fence. `target.far` says in which order they are called,
and what every two of them leave behind when nobody calls the next.
"""

from __future__ import annotations

from migrate.target.scripts import (
    _DECIDE,
    _FENCED,
    _FORM,
    _HELD,
    _PUT,
    _WRITE,
    Script,
)

_ENTRY = """
-- What a further key holds: free; entry, with record, version and stamp of the claim; string, with
-- the record, where a script wrote it beside that; or foreign.
local function entry_at(key)
  local there = redis.call('TYPE', key).ok
  if there == 'none' then return 'free' end
  if there == 'string' then return 'string', redis.call('GETRANGE', key, 0, 1023), '', '' end
  if there == 'hash' and redis.call('HLEN', key) == 3 then
    local held = redis.call('HMGET', key, 'id', 'v', 's')
    if held[1] and is_version(held[2]) and is_version(held[3]) then
      return 'entry', held[1], held[2], held[3]
    end
  end
  return 'foreign'
end
"""

_NEAR = """
-- The part of a key that says its slot. Two keys with one tag are in one slot.
local function tag_of(key)
  local from = string.find(key, '{', 1, true)
  local to = from and string.find(key, '}', from + 1, true)
  if to and to > from + 1 then return string.sub(key, from + 1, to - 1) end
  return key
end

-- Whether an entry that a record lists is one that this script may touch.
local function is_near(entry, record)
  if tag_of(entry[2]) ~= tag_of(record) then return false end
  return entry[1] ~= 'u' or redis.call('TYPE', entry[2]).ok ~= 'hash'
end

-- The entries that a record lists, that are not near, and that it does not want.
local function left_in(text, wanted, record)
  local left = {}
  for _, entry in ipairs(listed(text or '')) do
    if entry[1] == 'u' and not is_near(entry, record) and not lists(wanted, 'u', entry[2]) then
      left[#left + 1] = {'u', entry[2], ''}
    end
  end
  return left
end
"""

_FAR = """
-- What follows takes the place of functions of the same name: those work on further keys, and
-- these leave out the ones that are in another slot.

-- Of a far entry, letter f says that it was claimed for this record, and w that it was not.
local all_entries_at = entries_at
local function entries_at(first, count)
  local found = all_entries_at(first, count)
  for _, entry in ipairs(found) do
    if entry[1] == 'f' or entry[1] == 'w' then
      entry.far, entry.unclaimed = true, entry[1] == 'w' and entry[2] ~= ''
      entry[1] = 'u'
    end
  end
  return found
end

-- The same entries in the same places, without the keys of those that are far.
local function without_far(entries)
  local found = {}
  for i, entry in ipairs(entries) do found[i] = entry.far and {entry[1], '', ''} or entry end
  return found
end

local any_first_refused = first_refused
local function first_refused(record, version, entries, prefix, names)
  return any_first_refused(record, version, without_far(entries), prefix, names)
end

local any_expire = expire
local function expire(kind, record, entries, expires, grace, names)
  any_expire(kind, record, without_far(entries), expires, grace, names)
end

local function release_all(record, text, wanted)
  for _, entry in ipairs(listed(text or '')) do
    if not lists(wanted, entry[1], entry[2]) and is_near(entry, record) then
      release(entry[1], entry[2], record)
    end
  end
end

-- Of the record that was judged last: entries that it does not want and is still in, and what is
-- there.
local left, there_now = {}, {}

-- The record lists what it is still in behind what it should be in.
local function enter_all(record, entries, held, names, same)
  local wanted = text_of(entries) .. text_of(left)
  if wanted ~= '' then
    if not same or wanted ~= held then redis.call('HSET', record, names[4], wanted) end
  elseif same and held then
    redis.call('HDEL', record, names[4])
  end
  for _, entry in ipairs(without_far(entries)) do
    if entry[2] ~= '' then enter(entry[1], entry[2], entry[3], record, same) end
  end
end
"""

_FAR_JUDGE = """
local BLOCKED = 'R'

local near_judge = judge
local function judge(key, version, digest, expires, entries, form)
  local outcome, found, there, held, instant, which =
    near_judge(key, version, digest, expires, entries, form)
  local writes = outcome == WRITTEN or outcome == REPLACED or outcome == SAME or outcome == ADOPTED
  left, there_now = {}, {}
  if held then
    left = left_in(held, writes and text_of(entries) or '', key)
    local marks = redis.call('HMGET', key, form.names[1], form.names[2])
    there_now = {marks[1] or '', marks[2] or '', held}
  end
  -- What is removed, or becomes a text, can list nothing any more: its entries go first.
  if #left > 0 and (outcome == EXPIRED or (writes and form.kind == 'string')) then
    return BLOCKED
  end
  for _, entry in ipairs(entries) do
    if writes and entry.unclaimed then
      left = {}
      return BLOCKED
    end
  end
  return outcome, found, there, held, instant, which
end

local near_tell = tell
local function tell(reply, outcome, found, which)
  near_tell(reply, outcome, found, which)
  if outcome == REPLACED or outcome == SAME or outcome == BLOCKED then
    reply[#reply + 1] = text_of(left)
  end
  if outcome == BLOCKED then
    for i = 1, 3 do reply[#reply + 1] = there_now[i] or '' end
  end
end

-- Somebody may have parted records of this slot from their entries since they were looked at.
local stamp = ARGV[#ARGV]
if stamp ~= '' and (redis.call('HMGET', KEYS[1], 'parted')[1] or '0') ~= stamp then
  return {'RETRY'}
end
"""

_LOOK = """
local form, at = form_at(4), 16
local replies = {'OK', redis.call('HMGET', KEYS[1], 'parted')[1] or '0'}

for i = 2, #KEYS do
  local version, digest, _, _, last, instant, entries = record_at(at, form)
  if not version then return redis.error_reply('MALFORMED record in a batch') end
  local outcome, found, _, held, expires, which =
    judge(KEYS[i], version, digest, instant, entries, form)
  local told = {}
  tell(told, outcome, found, which)
  replies[#replies + 1] = {outcome, told[1] or '', held or '', expires or ''}
  at = last + 1
end
return replies
"""

_PEEK = """
local replies = {}
for i, key in ipairs(KEYS) do
  local what, id, version, stamp = entry_at(key)
  replies[i] = {what, id or '', version or '', stamp or ''}
end
return replies
"""

_OWN = """
local names = {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]}
local claimed = claims(KEYS[1], 'u', ARGV[6], names)
if not claimed then return 'no' end
return is_of_earlier(claimed, ARGV[7]) and 'earlier' or 'yes'
"""

_CLAIM = """
local grace = tonumber(ARGV[4])

local function claim(key, record, version, stamp, instant, linked, seen)
  local what, id, held, held_stamp = entry_at(key)
  if what == 'foreign' then return {'foreign'} end
  local own = id == record
  if what ~= 'free' and not own and
    not (id == seen[1] and held == seen[2] and held_stamp == seen[3]) then
    return {'other', what, id, held, held_stamp}
  end

  local kept = own and what == 'entry'
  -- A claim never becomes older: whoever made the newer one counts on it.
  if kept and (linked or is_newer(held, version)) then version = held end
  if kept and (linked or is_newer(held_stamp, stamp)) then stamp = held_stamp end
  if what == 'string' then redis.call('UNLINK', key) end
  if not kept or version ~= held or stamp ~= held_stamp then
    redis.call('HSET', key, 'id', record, 'v', version, 's', stamp)
  end
  if instant ~= '' then
    redis.call('PEXPIREAT', key, string.format('%.0f', instant + grace))
  elseif not linked and what == 'entry' then
    redis.call('PERSIST', key)
  end
  return {'ours'}
end

local replies, at = {'OK'}, 5
for i = 2, #KEYS do
  local seen = {ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]}
  replies[i] =
    claim(KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4] == '1', seen)
  at = at + 8
end
return replies
"""

_PART = """
local names = {ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]}

local function is_parted(record, key, claimer, version, digest)
  local claimed = claims(record, 'u', key, names)
  if not claimed then return true end
  if claimer ~= '' then return is_of_earlier(claimed, claimer) end
  local held = redis.call('HMGET', record, names[1], names[2])
  return held[1] == version and held[2] == digest
end

local parted, any = {}, false
for i = 2, #KEYS do
  local at = 4 * i + 1
  parted[i] = is_parted(KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  any = any or parted[i]
end

local replies, stamp = {'OK'}, ''
if any then
  stamp = string.format('%.0f', (redis.call('HMGET', KEYS[1], 'parted')[1] or 0) + 1)
  redis.call('HSET', KEYS[1], 'parted', stamp)
end
for i = 2, #KEYS do replies[i] = parted[i] and stamp or '' end
return replies
"""

_LEAVE = """
for i = 2, #KEYS do
  local record, limit = ARGV[2 * i], ARGV[2 * i + 1]
  local what, id, _, stamp = entry_at(KEYS[i])
  if id == record and (what == 'string' or (what == 'entry' and is_newer(limit, stamp))) then
    redis.call('UNLINK', KEYS[i])
  end
end
return {'OK'}
"""

_SHRINK = """
local name = {ARGV[4], ARGV[5], ARGV[7]}
local at = 9
for i = 2, #KEYS do
  local key, held = KEYS[i], {}
  if redis.call('TYPE', key).ok == 'hash' then held = redis.call('HMGET', key, unpack(name)) end
  if held[1] == ARGV[at] and held[2] == ARGV[at + 1] and held[3] == ARGV[at + 2] then
    if ARGV[at + 3] == '' then
      redis.call('HDEL', key, name[3])
    else
      redis.call('HSET', key, name[3], ARGV[at + 3])
    end
  end
  at = at + 4
end
return {'OK'}
"""

FAR_WRITE = Script.of(_HELD, _DECIDE, _PUT, _NEAR, _FAR, _FENCED, _FORM, _FAR_JUDGE, _WRITE)
"""
`scripts.WRITE` that leaves alone what is in another slot, and says what is still to be left there.

KEYS, ARGV: as of WRITE. Kind f is a far entry that was claimed, w one that was not; behind the
last record the stamp of the slot when its records were looked at, or '' where none was claimed.

Reply: as of WRITE; with R for a record that is not written until something else is done. Behind
each REPLACED, SAME and R the list of entries to be left; behind R also version, digest and list of
the record that is there, '' each where nothing is to be left. Or RETRY.
"""

LOOK = Script.of(_HELD, _DECIDE, _PUT, _NEAR, _FAR, _FORM, _LOOK)
"""
What would become of records, far entries aside. Nothing is written, and no fence needed.

KEYS, ARGV: as of FAR_WRITE, without values. Reply: OK, stamp of the slot, and for each record
outcome, what is told of it, the list that it has, and the instant that it will have.
"""

PEEK = Script.of(_HELD, _ENTRY, _PEEK)
"""
What further keys hold: what, record, version, stamp of each. KEYS: entries.
"""

OWN = Script.of(_HELD, _DECIDE, _OWN)
"""
Whether a record says that it has an entry: yes, no, or earlier: in an earlier revision.

KEYS: record. ARGV: five reserved names, entry, version of who asks.
"""

CLAIM = Script.of(_HELD, _ENTRY, _FENCED, _CLAIM)
"""
Take far entries that are free, one's own, or still as they were seen.

KEYS: fence, entries. ARGV: mode, epoch, run, grace; for each entry record, version, stamp of the
record's slot, instant or '', 1 where the record lists it already, and record, version and stamp
that were seen there by someone who may take it, '' each otherwise. Reply: OK, and for each ours,
foreign, or other with what is there.
"""

PART = Script.of(_HELD, _DECIDE, _FENCED, _PART)
"""
Make sure that a record has no more part in an entry, and has none in a moment either.

The stamp of the slot is raised: whoever looked at its records before does not write them before
having claimed again.

KEYS: fence, records. ARGV: mode, epoch, run, five reserved names; for each record an entry, the
version of who wants it ('' otherwise), and version and digest of the record that does not want it
any more though it lists it ('' otherwise). Reply: OK, and for each the new stamp, or '' where the
record has the entry.
"""

LEAVE = Script.of(_HELD, _ENTRY, _FENCED, _LEAVE)
"""
Remove entries that name a record, and were claimed before it was parted from them.

KEYS: fence, entries. ARGV: mode, epoch, run; for each entry record and stamp of the parting.
"""

SHRINK = Script.of(_HELD, _FENCED, _SHRINK)
"""
Take out of a record's list what it has left, if it is still as it was.

KEYS: fence, records. ARGV: mode, epoch, run, five reserved names; for each record version, digest,
the list that it has, and the list to write.
"""

ALL = (FAR_WRITE, LOOK, PEEK, OWN, CLAIM, PART, LEAVE, SHRINK)
"""Every script of this module."""
