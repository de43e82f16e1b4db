-- Give no slot and no permit for that many seconds. A longer block that is in force remains.
-- Arguments: seconds.

write('blocked_until', math.max(read('blocked_until'), now + number('seconds')))
return 1
