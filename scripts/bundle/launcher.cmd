@echo off
"%~dp0..\node\bin\node.exe" "%~dp0..\app\scripts\bin\@BIN@.js" %*
