-- Requests that wait in a line: one task looks for all of them, who came first goes first, and whose
-- client has left is dropped. For the scripts that are loaded after it: all are one program.

local LOOK = 1.0 -- seconds after which it is looked again who is still there
local ESTABLISHED = "01"

local function now()
    local at = core.now()
    return at.sec + at.usec / 1000000
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

-- Whether the request announces a body that is not to wait.
local function long(txn, longest)
    return (tonumber(txn.sf:req_hdr("content-length")) or 0) > longest
end

local function let(own, number, free)
    local mine = own.line[number]
    mine.free, mine.over = free, true
    own.line[number] = nil
    own.count = own.count - 1 -- here, since HAProxy may end a request that waits
    mine.queue:push(true)
end

-- Drops those who came before this look and are not seen any more. By number: HAProxy may stop us
-- anywhere and let others in.
local function sweep(own)
    local last = own.last
    local peers = living()
    if peers == nil then
        return
    end
    for number = own.first, last do
        local mine = own.line[number]
        if mine ~= nil and parted(mine.peer, peers) then
            let(own, number, false)
        end
    end
end

local function release(own)
    local open, vain = own.state()
    local time, left = now(), own.pace
    own.tick = own.tick + 1
    if open or math.abs(time - own.looked) > LOOK then
        own.looked = time
        sweep(own)
    end
    while own.first <= own.last and left > 0 do
        local mine = own.line[own.first]
        if mine ~= nil then
            if not (open or vain or mine.till <= time or mine.ticks <= own.tick) then
                return
            end
            let(own, own.first, open)
            left = left - 1
        end
        own.first = own.first + 1
    end
end

local function watch(own)
    repeat
        own.watched = true
        while own.first <= own.last do
            core.msleep(own.pause * 1000)
            release(own)
        end
        own.watched = false
    until own.first > own.last or own.watched
end

-- ``state`` is asked every ``pause`` seconds, while anybody waits, whether all may go, and if not,
-- whether they wait in vain. ``pace``: so many go each time.
local function new(pause, pace, state)
    local own = { pause = pause, pace = pace, state = state, watched = false }
    own.first, own.last, own.line, own.count = 1, 0, {}, 0
    own.tick, own.looked = 0, now()
    return own
end

-- For so many seconds at most; ticks bound it too, so that a clock that is set back makes nobody wait
-- for ever. ``peer``: of ``peer_of``, or nil. Whether the request may go on.
local function wait(own, seconds, peer)
    local mine = { queue = core.queue(), peer = peer, till = now() + seconds }
    mine.ticks = own.tick + 2 * seconds / own.pause
    own.count = own.count + 1
    own.last = own.last + 1
    own.line[own.last] = mine
    if not own.watched then
        own.watched = true
        core.register_task(function() watch(own) end)
    end
    while not mine.over do
        mine.queue:pop_wait()
    end
    if mine.free then
        core.yield() -- one that HAProxy knows to have left ends here
    end
    return mine.free
end

gapless_line = { new = new, wait = wait, long = long, now = now, peer_of = peer_of }
