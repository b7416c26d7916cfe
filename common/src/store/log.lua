-- Adds lines to the log of a task, beside its hash; the oldest leave where there are too many.
--
-- KEYS[1]  the task's hash
-- KEYS[2]  its log: a stream, an entry for each line
-- ARGV[1]  how long a log is kept while its task has not ended, in milliseconds
-- ARGV[2]  lines that are kept
-- ARGV[3]  bytes of their texts that are kept
-- ARGV[4]  the attempt
-- ARGV[5]  who says it
-- ARGV[6…] for each line: when it was written, in milliseconds since the epoch, and its text; none at
--          all only brings the log's expiry in line
--
-- Returns 1, or 0 where there is no such task: then nothing is written.
--
-- The log expires with the hash where that does, because the task has ended. Each entry knows the bytes
-- of all texts up to and with its own, so that they need not be added up.

local call = redis.call
local hash, log = KEYS[1], KEYS[2]
local expiry = call('PTTL', hash)
if expiry == -2 then return 0 end
if expiry == -1 then expiry = ARGV[1] end

if ARGV[6] then
  local last = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local bytes = last and tonumber(last[2][10]) or 0
  for at = 6, #ARGV, 2 do
    bytes = bytes + #ARGV[at + 1]
    call('XADD', log, 'MAXLEN', ARGV[2], '*', 'attempt', ARGV[4], 'worker', ARGV[5],
      'time', ARGV[at], 'text', ARGV[at + 1], 'bytes', bytes)
  end

  -- The first line to stay is the first with as many bytes before it as have to go.
  local surplus = bytes - ARGV[3]
  local from = '-'
  while surplus > 0 do
    local entries = call('XRANGE', log, from, '+', 'COUNT', 8)
    if not entries[1] then break end
    for _, entry in ipairs(entries) do
      local before = entry[2][10] - #entry[2][8]
      if before >= surplus then
        call('XTRIM', log, 'MINID', entry[1])
        surplus = 0
        break
      end
      from = '(' .. entry[1]
    end
  end
end
call('PEXPIRE', log, expiry)
return 1
