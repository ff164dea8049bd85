-- Takes from a resource's budget what a worker has used without asking: connections after the first of a call, and tokens.
-- KEYS[1] budgets   KEYS[2] quotas
-- ARGV[1] resource   ARGV[2] connections   ARGV[3] tokens
-- Answer: nothing.
local limits = published_limits({ quotas = KEYS[2] }, ARGV[1])
if limits.connections == 0 and limits.tokens == 0 then
  return false
end
local budget = read_budget({ budgets = KEYS[1] }, ARGV[1], limits)
-- A minute's worth of debt at most: what lies longer back is no reason to refuse callers.
budget.c = math.max(-limits.connections, budget.c - ARGV[2])
budget.t = math.max(-limits.tokens, budget.t - ARGV[3])
write_budget({ budgets = KEYS[1] }, ARGV[1], budget)
return false
