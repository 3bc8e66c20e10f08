-- Counts the body of a request whose length nobody said, and ends it when it is too long.
-- filter lua.gapless_body BYTES

local Body = {}
Body.id = "gapless body"
Body.flags = filter.FLT_CFG_FL_HTX
Body.__index = Body

function Body:new()
  local one = { most = self.most, seen = 0 }
  setmetatable(one, Body)
  return one
end

function Body:start_analyze(txn, channel)
  if not channel:is_resp() then
    filter.register_data_filter(self, channel)
  end
end

function Body:http_headers(txn, message)
  if message.channel:is_resp() then
    return filter.CONTINUE
  end
  -- One that says its length is refused by it, or is no longer than that.
  if message:get_headers()["content-length"] ~= nil then
    filter.unregister_data_filter(self, message.channel)
  end
  return filter.CONTINUE
end

function Body:http_payload(txn, message)
  if message.channel:is_resp() then
    return
  end
  self.seen = self.seen + message:input()
  -- Its end counts as one more.
  if self.seen > self.most + 1 then
    txn:set_var("txn.too_large", true)
    -- Not filter.ERROR: what comes of a payload is a number of bytes, and an error all of them.
    error("the body is larger than allowed")
  end
end

core.register_filter("gapless_body", Body, function(made, args)
  made.most = tonumber(args[1])
  return made
end)
