;; Takes and uses all memory it is given, a MiB at a time, and prints "refused" once
;; memory.grow fails.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\08\00\00\00refused\n")
  (func (export "_start")
    (local $pages i32)
    (loop $more
      (local.set $pages (memory.grow (i32.const 16)))
      (if (i32.ne (local.get $pages) (i32.const -1))
        (then
          (memory.fill (i32.shl (local.get $pages) (i32.const 16)) (i32.const 1)
            (i32.const 0x100000))
          (br $more))))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 128)))))
