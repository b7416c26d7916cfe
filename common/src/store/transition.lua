-- Transitions of one sort, each of one task's record: compare, then set. The only writer of a task's
-- hash, but for its first record, which mostly comes by RESTORE (fresh.rs).
--
-- Many tasks share a call because what surrounds a transition costs as much as the transition.
--
-- Loaded twice: once with the flag allow-oom, for transitions that end a task or carry it on to its
-- end, and once without, for those that take something in. The first line that says so is put before
-- this text. With such a line Redis refuses the whole script when memory is full, before it began; a
-- script without one would fail at its first write. Every check of a task is before its first write,
-- and no write can fail, so nothing is ever half done.
--
-- KEYS     for each task its hash, and its payload in the same slot
-- ARGV[1]  states that it may start from, `absent` for no record: |absent|rejected|
-- ARGV[2]  three characters:
--            attempt that the record must be at: `*` any, `=` the task's, `<` one below the task's
--            payload: `k` keep, `s` set to the task's, `d` delete
--            answer with the record as it was: `r` yes, `a` if it has a reply address, `-` no; always
--            if refused
-- ARGV[3]  expiry of the hash from now in milliseconds, `p` for none, empty for as it was
-- ARGV[4]  the new state, empty for as it was
-- ARGV[5]  how many other fields are set
-- ARGV[6…] their names; then for each task: its attempt, its payload where one is set, its values
--
-- Returns for each task 1 for made, 0 for refused, alone or followed by the record (see `record`
-- below). A state that is none of ours counts as absent: a damaged record is built anew.
--
-- A call from here into Redis costs 2 us, more than most commands: payloads are set and deleted for all
-- tasks at once, and what a transition can do without is not asked.

local call = redis.call
local keep, new_state = ARGV[3], ARGV[4]
local expect, payload, answer = string.byte(ARGV[2], 1, 3)
local stored, deleted = {}, {}
local looked_at = {'state', 'attempt', answer == 97 and 'reply_to' or nil}

-- Whether it may start from each state; most tasks of a call are in the same one.
local allowed = {}
local function is_allowed(state)
  if allowed[state] == nil then
    allowed[state] = string.find(ARGV[1], '|' .. state .. '|', 1, true) ~= nil
  end
  return allowed[state]
end

-- `sets` are fields and values in turn.
local function transition(hash, copy, expected, bytes, sets)
  local was = call('HMGET', hash, unpack(looked_at))
  local state = was[1] or 'absent'
  local ok = is_allowed(state)
  if not ok and not string.find('|absent|blocked|delayed|queued|dispatched|running|retrying|succeeded'
      .. '|failed|cancelled|expired|rejected|', '|' .. state .. '|', 1, true) then
    state = 'absent'
    ok = is_allowed(state)
  end
  if ok and expect ~= 42 and state ~= 'absent' and (expect == 60 or was[2] ~= expected) then
    local attempt = tonumber(was[2]) or 0
    ok = attempt == tonumber(expected)
    if expect == 60 then ok = attempt < tonumber(expected) end
  end

  local record
  if state ~= 'absent' and (not ok or answer == 114 or answer == 97 and (was[3] or '') ~= '') then
    record = call('HMGET', hash, 'state', 'attempt', 'failures', 'losses', 'max_attempts',
      'max_losses', 'worker', 'kind', 'pool', 'next_at', 'reply_to', 'correlation_id', 'owed',
      'cancel', 'submitted_at', 'keep_ms', 'started_at', 'backoff', 'start_by')
  end
  if not ok then return record and {0, record} or 0 end

  local is_fresh = state == 'absent' or (state == 'rejected' and new_state ~= '')
  if is_fresh then
    -- Nothing of an earlier record may show through, its payload and expiry included. The blank
    -- record is what DUMP gives for the fields below (RDB version 10, which Redis 7.0 and all later
    -- ones read): 14 us in all, against 20 to 26 for naming each field. Where RESTORE is forbidden,
    -- the long way leads to the same.
    local blank = redis.pcall('RESTORE', hash, '0', '\016A55\001\000\0002\000\133state\006\128\001\130id\003\128\001\132kind\005\128\001\132pool\005\128\001\136priority\009\000\001\134tenant\007\128\001\135attempt\008\000\001\136failures\009\000\001\134losses\007\000\001\140max_attempts\013\000\001\138max_losses\011\000\001\134worker\007\128\001\140submitted_at\013\128\001\141dispatched_at\014\128\001\138started_at\011\128\001\139finished_at\012\128\001\135next_at\008\128\001\136progress\009\000\001\141progress_note\014\128\001\134result\007\128\001\139result_type\012\128\001\140result_bytes\013\128\001\133error\006\128\001\138error_kind\011\128\001\134reason\007\128\001\255\010\000\188\170\207\162\224\198\012\229', 'REPLACE')
    if blank.err then
      call('DEL', hash)
      call('HSET', hash, 'state', '', 'id', '', 'kind', '', 'pool', '', 'priority', '0',
        'tenant', '', 'attempt', '0', 'failures', '0', 'losses', '0', 'max_attempts', '0',
        'max_losses', '0', 'worker', '', 'submitted_at', '', 'dispatched_at', '', 'started_at', '',
        'finished_at', '', 'next_at', '', 'progress', '0', 'progress_note', '', 'result', '',
        'result_type', '', 'result_bytes', '', 'error', '', 'error_kind', '', 'reason', '')
    end
    local _, prefix = string.find(hash, ':task:', 1, true)
    call('HSET', hash, 'id', string.sub(hash, prefix + 1), unpack(sets))
  elseif sets[1] then
    call('HSET', hash, unpack(sets))
  end
  if payload == 115 then
    stored[#stored + 1] = copy
    stored[#stored + 1] = bytes
  elseif payload == 100 or is_fresh then
    deleted[#deleted + 1] = copy
  end
  if keep == 'p' then
    call('PERSIST', hash)
  elseif keep ~= '' then
    call('PEXPIRE', hash, keep)
  end
  return record and {1, record} or 1
end

local fields = tonumber(ARGV[5])
local sets, shared = {}, 0
if new_state ~= '' then
  sets[1], sets[2], shared = 'state', new_state, 2
end
for n = 1, fields do sets[shared + 2 * n - 1] = ARGV[5 + n] end
local at, answers = 5 + fields, {}
for task = 1, #KEYS / 2 do
  at = at + 1
  local expected, bytes = ARGV[at], nil
  if payload == 115 then
    at = at + 1
    bytes = ARGV[at]
  end
  for n = 1, fields do sets[shared + 2 * n] = ARGV[at + n] end
  at = at + fields
  answers[task] = transition(KEYS[2 * task - 1], KEYS[2 * task], expected, bytes, sets)
end
if stored[1] then call('MSET', unpack(stored)) end
if deleted[1] then call('DEL', unpack(deleted)) end
return answers
