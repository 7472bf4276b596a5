-- sysbench's oltp_write_only at a fixed rate, with the latency of every transaction written down. A transaction's latency
-- counts from when it was due, not from when a stalled thread came to it, so that a stall shows in full.
-- SPDX-License-Identifier: GPL-2.0-or-later
require("oltp_common")
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } bench_timespec;
int clock_gettime(int clock, bench_timespec *now);
int usleep(unsigned int microseconds);
]]

sysbench.cmdline.options.bench_rate = {"Transactions a second, of all threads together", 200}
sysbench.cmdline.options.bench_log = {"Where to write 'time due, milliseconds' lines, one file per thread", "load"}

local CLOCK_MONOTONIC = 1
local timespec = ffi.new("bench_timespec")
local interval, due, log
local is_begun = false

local function now()
   ffi.C.clock_gettime(CLOCK_MONOTONIC, timespec)
   return tonumber(timespec.seconds) + tonumber(timespec.nanoseconds) / 1e9
end

function prepare_statements()
   prepare_begin()
   prepare_commit()
   prepare_index_updates()
   prepare_non_index_updates()
   prepare_delete_inserts()
   interval = sysbench.opt.threads / sysbench.opt.bench_rate
   due = now() + interval * sysbench.tid / sysbench.opt.threads
   log = assert(io.open(sysbench.opt.bench_log .. "." .. sysbench.tid, "w"))
   log:setvbuf("line")
end

function event()
   -- Called again for a transaction that lost to another one; it is due since its first try.
   if not is_begun then
      local early = due - now()
      if early > 0 then ffi.C.usleep(early * 1e6) end
      is_begun = true
   end
   begin()
   execute_index_updates()
   execute_non_index_updates()
   execute_delete_inserts()
   commit()
   log:write(string.format("%.6f %.3f\n", due, (now() - due) * 1e3))
   is_begun = false
   due = due + interval
end
