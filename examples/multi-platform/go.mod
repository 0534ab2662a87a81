module example/platform

go 1.21
