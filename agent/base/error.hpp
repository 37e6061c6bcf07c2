// SPDX-License-Identifier: Apache-2.0
// The one error type of the project.
//
// An Error is written for the operator who reads it: what was being done to which object, why it failed, and what to
// do about it. Fallible things are system calls, the kernel, the network and user input; they return Result<T>.
// Programming errors are assertions (MESH_ASSERT), always on. Allocation failure terminates.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace mesh::base {

/// What class of trouble it is: decides the exit code and whether trying again can help.
enum class ErrorKind {
  kInvalid,      ///< The input is wrong; only changing it helps (exit code 78 for configuration, 2 for arguments).
  kNotFound,     ///< The named object does not exist.
  kExhausted,    ///< A named limit is reached; the message names the limit, the need and the setting.
  kPermission,   ///< Missing privilege (exit code 77).
  kUnavailable,  ///< A peer, a registry or the agent can't be reached now; may pass.
  kTimeout,      ///< A deadline ended the work.
  kConflict,     ///< Somebody else holds the object; the message says who.
  kUnsupported,  ///< This kernel or build can't; the message says which requirement is missing.
  kSystem,       ///< A system call failed; errnum says how.
};
inline constexpr std::size_t kErrorKinds = 9;

struct Error {
  ErrorKind kind = ErrorKind::kSystem;
  std::string message;  ///< "verb object: cause", without a final full stop.
  std::string remedy;   ///< What the reader can do; empty if nothing useful can be said.
  int errnum = 0;       ///< errno where one was involved, else 0.

  bool operator==(const Error&) const = default;

  /// "message; remedy", the form that logs and terminals show.
  [[nodiscard]] std::string to_string() const { return remedy.empty() ? message : message + "; " + remedy; }

  /// The same error with its object put in front: "context: message".
  [[nodiscard]] Error within(std::string_view context) && {
    message.insert(0, std::string(context) + ": ");
    return std::move(*this);
  }
};

template <typename T>
using Result = std::expected<T, Error>;

/// An Error to return: `return fail(ErrorKind::kInvalid, "parse port '70000': out of range", "use 1 to 65535");`
[[nodiscard]] inline std::unexpected<Error> fail(ErrorKind kind, std::string message, std::string remedy = {}) {
  return std::unexpected(Error{kind, std::move(message), std::move(remedy), 0});
}

/// An Error from errno: "doing: strerror". EPERM and EACCES become kPermission, ENOENT kNotFound, ENOSPC and E2BIG
/// kExhausted, the rest kSystem.
[[nodiscard]] std::unexpected<Error> fail_errno(int errnum, std::string_view doing, std::string remedy = {});

}  // namespace mesh::base

/// Unwraps a Result or returns its error from the enclosing function. A GNU statement expression, so it can stand
/// inside an expression: `auto fd = MESH_TRY(open_file(path));`
#define MESH_TRY(expression)                                      \
  ({                                                              \
    auto mesh_try_result = (expression);                          \
    if (!mesh_try_result) [[unlikely]]                            \
      return std::unexpected(std::move(mesh_try_result).error()); \
    std::move(mesh_try_result).value();                           \
  })

/// MESH_TRY for a Result<void>.
#define MESH_CHECK(expression)                                    \
  do {                                                            \
    auto mesh_try_result = (expression);                          \
    if (!mesh_try_result) [[unlikely]]                            \
      return std::unexpected(std::move(mesh_try_result).error()); \
  } while (false)

/// A programming error ends the process, in every build type.
#define MESH_ASSERT(condition)                                                               \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
