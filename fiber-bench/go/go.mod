module fiberbench

go 1.24
