-- Give no slot and no permit for `seconds`. A longer block that is in force remains. Returns 1.
-- Arguments: seconds.

write('blocked_until', math.max(read('blocked_until'), now + number('seconds')))
return 1
