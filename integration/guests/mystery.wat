;; Wants something nobody offers.
(module
  (import "mystery" "function" (func $mystery))
  (memory (export "memory") 1)
  (func (export "_start") call $mystery))
