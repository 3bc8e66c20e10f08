-- Requests wait here while a map says so (docs/decisions/0026). One map entry, "on", tells until
-- when: "SECONDS SINCE 1970/SECONDS IN ALL". Whoever sets or clears it need not be there any more
-- when the time is over: one task watches for all who wait, and lets them go.
--
-- The variable says to the rule that follows that a request goes no further: there is no room for
-- it, its client has left, or its wait was cut short.

local path, most, longest = ...
most, longest = tonumber(most), tonumber(longest)

local TICK = 0.01
local LOOK = 1.0
local VARIABLE = "txn.gapless_hold"
local ESTABLISHED = "01"

local map = Map.new(path, Map._str)
local turn = nil

local function now()
    local at = core.now()
    return at.sec + at.usec / 1000000
end

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
    return tonumber(till) - now(), tonumber(all)
end

-- Peers that have not closed their connection, as "ADDRESS:PORT>OUR PORT" in the kernel's own
-- hexadecimal words; nil where it does not tell. HAProxy itself does not look at a connection while a request
-- of it waits for a rule: a client that has left would still have its request done.
local function living()
    local peers, told = {}, false
    for _, name in ipairs({ "/proc/net/tcp", "/proc/net/tcp6" }) do
        local file = io.open(name)
        if file ~= nil then
            told = true
            for line in file:lines() do
                local ours, peer, state = line:match("^%s*%d+: %x+:(%x+) (%x+:%x+) (%x%x) ")
                if state == ESTABLISHED then
                    peers[peer .. ">" .. ours] = true
                end
            end
            file:close()
        end
    end
    if not told then
        return nil
    end
    return peers
end

-- An address (hexadecimal bytes) and two ports as the kernel writes them, in words of this machine.
local function peer_of(address, port, ours)
    local words = {}
    for word in address:gmatch("%x%x%x%x%x%x%x%x") do
        local a, b, c, d = word:match("(..)(..)(..)(..)")
        words[#words + 1] = d .. c .. b .. a
    end
    return string.format("%s:%04X>%04X", table.concat(words), port, ours)
end

local MAPPED = "0000000000000000FFFF0000"

-- Whether a peer is none of the living. Of no known one nothing is said.
local function parted(peer, peers)
    return peer ~= nil and not (peers[peer] or peers[MAPPED .. peer])
end

-- For who waits elsewhere: all scripts of the edge are one program.
gapless_clients = { living = living, peer_of = peer_of, parted = parted }

-- Wakes those whose client has left. By number: HAProxy may stop us anywhere and let others in.
local function sweep(own)
    local peers = own.number > 0 and living() or nil
    if peers == nil then
        return
    end
    for number = 1, #own.line do
        local mine = own.line[number]
        if not mine.done and parted(mine.peer, peers) then
            mine.gone = true
            mine.queue:push(true)
        end
    end
end

-- One turn: from the first request that waits until all may go. Ticks bound it too, so that a
-- clock that is set back makes nobody wait longer.
local function watch(own, ticks)
    local left, looked = remaining(), now()
    while left > 0 and ticks > 0 do
        core.msleep(TICK * 1000)
        ticks = ticks - 1
        left = remaining()
        if now() - looked > LOOK then
            sweep(own)
            looked = now()
        end
    end
    core.del_map(path, "on")
    own.over = true
    if turn == own then
        turn = nil
    end
    sweep(own)
    for number = 1, #own.line do
        own.line[number].queue:push(true)
    end
end

local function begin(all)
    local own = { over = false, number = 0, line = {} }
    turn = own
    core.register_task(function() watch(own, math.ceil(all / TICK)) end)
end

local function too_long(txn)
    return (tonumber(txn.sf:req_hdr("content-length")) or 0) > longest
end

core.register_action("gapless_hold", { "http-req" }, function(txn)
    local left, all = remaining()
    if left <= 0 then
        core.del_map(path, "on") -- what a worker finds that starts later
        return
    end
    if turn == nil then
        begin(math.min(left, all))
    end
    local own = turn
    txn:set_var(VARIABLE, math.ceil(left))
    if too_long(txn) or own.number >= most then
        return
    end
    local mine = { queue = core.queue(), gone = false }
    local address = txn:get_var("txn.gapless_peer")
    if address ~= nil and txn.sf:fc_rcvd_proxy() ~= 1 then
        mine.peer = peer_of(address, txn.sf:fc_src_port(), txn.sf:fc_dst_port())
    end
    own.line[#own.line + 1] = mine
    own.number = own.number + 1
    while not (own.over or mine.gone) do
        mine.queue:pop_wait()
    end
    mine.done = true
    own.number = own.number - 1
    if not mine.gone then
        core.yield() -- one that HAProxy knows to have left ends here
        txn:unset_var(VARIABLE)
    end
end, 0)
