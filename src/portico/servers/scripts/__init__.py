"""What is wrong with a script that a web server starts: found here, before the server finds it."""
