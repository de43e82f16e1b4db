-- End a block before its time. Slots and permits stay, so the rate limit is kept. Returns 1.

write('blocked_until', 0)
return 1
