"""What the stages and their mathematics cost in time, and what the plain way costs."""
