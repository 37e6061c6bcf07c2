// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"

#include <cerrno>
#include <system_error>

namespace mesh::base {
namespace {

ErrorKind kind_of(int errnum) {
  switch (errnum) {
    case EPERM:
    case EACCES:
      return ErrorKind::kPermission;
    case ENOENT:
      return ErrorKind::kNotFound;
    case ENOSPC:
    case E2BIG:
    case EMFILE:
    case ENFILE:
      return ErrorKind::kExhausted;
    case ETIMEDOUT:
      return ErrorKind::kTimeout;
    default:
      return ErrorKind::kSystem;
  }
}

}  // namespace

std::unexpected<Error> fail_errno(int errnum, std::string_view doing, std::string remedy) {
  std::string message(doing);
  message += ": ";
  message += std::generic_category().message(errnum);
  return std::unexpected(Error{kind_of(errnum), std::move(message), std::move(remedy), errnum});
}

}  // namespace mesh::base
