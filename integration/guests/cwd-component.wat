;; Ends with the length of its initial working directory as exit code: WASI 0.2 gives it by a
;; call of its own, and 255 stands for none.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "initial-cwd" (func (result (option string))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (core func $initial-cwd (canon lower (func $environment "initial-cwd")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $exit-with-code (canon lower (func $exit "exit-with-code")))
  (core module $program
    (import "libc" "memory" (memory 1))
    (import "host" "initial-cwd" (func $initial-cwd (param i32)))
    (import "host" "exit-with-code" (func $exit-with-code (param i32)))
    (func (export "run") (result i32)
      ;; The answer: whether there is one, its address, its length.
      (call $initial-cwd (i32.const 0))
      (call $exit-with-code
        (select (i32.load (i32.const 8)) (i32.const 255) (i32.load8_u (i32.const 0))))
      unreachable))
  (core instance $instance (instantiate $program
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "initial-cwd" (func $initial-cwd))
      (export "exit-with-code" (func $exit-with-code))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
