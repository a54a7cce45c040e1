package rotate
