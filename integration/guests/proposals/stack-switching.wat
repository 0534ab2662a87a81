;; A coroutine that is started.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (type $function (func))
  (type $coroutine (cont $function))
  (elem declare func $work)
  (func $work (call $exit (i32.const 42)))
  (func (export "_start")
    (resume $coroutine (cont.new $coroutine (ref.func $work)))))
