-- Requests wait here for a service that has lost all its replicas (docs/decisions/0034): until one
-- of them, or of their successors, is up. A map names the services that were ready once and are to
-- have replicas. While somebody waits for a service one task looks for all of them.
--
-- Variables are left: where a request goes no further, where servers are there that are judged by
-- their answers, and where this worker is on its way out, so that the next one is asked.

local path, longest, most = ...
longest, most = tonumber(longest), tonumber(most)

local TICK = 0.02
local PACE = 20 -- requests that go on in a tick: a replica that is just up is not run over
local FLOOR = "_floor:"
local REFUSED = "txn.gapless_alone"
local JUDGED = "txn.gapless_judged"
local MOVED = "txn.gapless_moved"
local WAITED = "gapless-waited"
local UNREADY = "L7STS"
local SERVER = "waited"
local GONE = { "L4", "Read error", "Close from server" } -- HAProxy's words for no answer at all
local SETTLED = 2 -- seconds in which whoever was on its way to a server has found that it is gone

local lines = gapless_line -- of line.lua, which is loaded before
local map = Map.new(path, Map._str)
local owns = {} -- by service

local function judged(name)
    return core.backends[name]:get_srv_act() > 0
end

-- A worker on its way out checks nobody any more.
local function leaving()
    return tonumber(core.get_info()["Stopping"]) ~= 0
end

local function up(name)
    return judged(name) or core.backends[FLOOR .. name]:get_srv_act() > 0
end

-- One that answers that it is not ready lives, and nobody puts another one in its place.
local function lives(name)
    for _, server in pairs(core.backends[name].servers) do
        local seen = server:get_stats()
        local out = seen.status:sub(1, 5) == "MAINT"
        if not out and (seen.check_status or ""):find(UNREADY, 1, true) then
            return true
        end
    end
    return false
end

local function line(name)
    if owns[name] == nil then
        owns[name] = lines.new(TICK, PACE, function()
            local open = up(name) or leaving()
            return open, not open and map:lookup(name) == nil -- nobody is to come any more
        end)
    end
    return owns[name]
end

local function waiting()
    local all = 0
    for _, own in pairs(owns) do
        all = all + own.count
    end
    return all
end

-- Once, for so many seconds at most. ``length``: so many wait for this service; ``ready``: the path
-- at which replicas are asked whether they are, to which the truth is told at once.
core.register_action("gapless_await", { "http-req" }, function(txn, name, seconds, length, ready)
    if not up(name) then
        txn:set_var(REFUSED, true)
        local own = line(name)
        local many = waiting() >= most or own.count >= tonumber(length)
        local other = txn.sf:req_fhdr(WAITED) ~= "" or txn.sf:path() == ready
        if other or many or lines.long(txn, longest) then
            return
        end
        if map:lookup(name) == nil or lives(name) then
            return
        end
        local address, peer = txn:get_var("txn.gapless_peer"), nil
        if address ~= nil then
            peer = lines.peer_of(address, txn.sf:src_port(), txn.sf:dst_port())
        end
        if not lines.wait(own, tonumber(seconds), peer) then
            return
        end
        txn:unset_var(REFUSED)
        if leaving() then
            txn:set_var(MOVED, true)
            return
        end
        txn.http:req_set_header(WAITED, "1")
    end
    if judged(name) then
        txn:set_var(JUDGED, true)
    end
end, 4)

-- The way back stands in a backend while it has servers, and where these are gone a moment longer:
-- for whom the last of them left behind. After that the frontends are to see that none is left, and
-- choose the floor, where clients stay with their servers.
local changes = {} -- of a backend's servers: who waits for the last one's sake may be overtaken

local function keep(name, waits)
    local way = core.backends[name].servers[SERVER]
    local change = (changes[name] or 0) + 1
    changes[name] = change
    if judged(name) then
        way:set_ready()
        return
    end
    core.register_task(function()
        core.sleep(waits)
        if changes[name] == change and not judged(name) then
            way:set_maint()
        end
    end)
end

local function keeps(name)
    local known = core.backends[name]
    return known ~= nil and name:sub(1, 1) ~= "_" and known.servers[SERVER] ~= nil
end

core.register_init(function()
    for name in pairs(core.backends) do
        if keeps(name) then
            keep(name, 0)
        end
    end
end)

-- Whether it is out for what it has answered: then nobody is on the way to one that is gone.
local function answers(name, server)
    local one = core.backends[name].servers[server]
    local seen = one ~= nil and one:get_stats() or {}
    local why, last = seen.check_status, seen.last_chk or ""
    if (seen.status or ""):sub(1, 4) ~= "DOWN" then
        return false
    end
    for _, sign in ipairs(GONE) do
        if last:find(sign, 1, true) then
            return false
        end
    end
    return why == "L7OK" or why == "HANA"
end

core.event_sub({ "SERVER_UP", "SERVER_DOWN" }, function(_, server)
    local name = server.proxy_name
    if server.name ~= SERVER and keeps(name) then
        keep(name, answers(name, server.name) and 0 or SETTLED)
    end
end)
