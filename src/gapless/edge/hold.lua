-- Requests wait here while a map says so (docs/decisions/0026). One map entry, "on", tells until
-- when: "SECONDS SINCE 1970/SECONDS IN ALL". Whoever sets or clears it need not be there any more
-- when the time is over: one task watches for all who wait, and lets them go.
--
-- The variable says to the rule that follows that a request goes no further: there is no room for
-- it, its client has left, or its wait was cut short.

local path, most, longest = ...
most, longest = tonumber(most), tonumber(longest)

local TICK = 0.01
local VARIABLE = "txn.gapless_hold"

local lines = gapless_line -- of line.lua, which is loaded before
local map = Map.new(path, Map._str)
local turn = nil

-- Seconds that are left, and how many there are in all; 0: nothing is held.
local function remaining()
    local value = map:lookup("on")
    if value == nil then
        return 0, 0
    end
    local till, all = value:match("^([%d.]+)/([%d.]+)$")
    if till == nil then
        return 0, 0
    end
    return tonumber(till) - lines.now(), tonumber(all)
end

-- One turn: from the first request that waits until all may go. Ticks bound it too, so that a
-- clock that is set back makes nobody wait longer.
local function begin(all)
    local ticks = math.ceil(all / TICK)
    local own
    own = lines.new(TICK, math.huge, function()
        ticks = ticks - 1
        if remaining() > 0 and ticks > 0 then
            return false, false
        end
        core.del_map(path, "on")
        if turn == own then
            turn = nil
        end
        return true, false
    end)
    turn = own
    return own
end

core.register_action("gapless_hold", { "http-req" }, function(txn)
    local left, all = remaining()
    if left <= 0 then
        core.del_map(path, "on") -- what a worker finds that starts later
        return
    end
    local own = turn or begin(math.min(left, all))
    txn:set_var(VARIABLE, math.ceil(left))
    if lines.long(txn, longest) or own.count >= most then
        return
    end
    local address, peer = txn:get_var("txn.gapless_peer"), nil
    if address ~= nil and txn.sf:fc_rcvd_proxy() ~= 1 then
        peer = lines.peer_of(address, txn.sf:fc_src_port(), txn.sf:fc_dst_port())
    end
    if lines.wait(own, math.huge, peer) then
        txn:unset_var(VARIABLE)
    end
end, 0)
