// SPDX-License-Identifier: Apache-2.0
#include "api/common.hpp"

#include <array>
#include <utility>

namespace mesh::api {
namespace {

using base::ErrorKind;

constexpr std::array<std::pair<ErrorKind, std::string_view>, 9> kNames = {{
    {ErrorKind::kInvalid, "invalid"},
    {ErrorKind::kNotFound, "not_found"},
    {ErrorKind::kExhausted, "exhausted"},
    {ErrorKind::kPermission, "permission"},
    {ErrorKind::kUnavailable, "unavailable"},
    {ErrorKind::kTimeout, "timeout"},
    {ErrorKind::kConflict, "conflict"},
    {ErrorKind::kUnsupported, "unsupported"},
    {ErrorKind::kSystem, "system"},
}};

}  // namespace

std::string_view to_string(ErrorKind kind) {
  for (const auto& [candidate, name] : kNames) {
    if (candidate == kind) return name;
  }
  return "system";
}

ErrorKind error_kind_from(std::string_view code) {
  for (const auto& [kind, name] : kNames) {
    if (name == code) return kind;
  }
  return ErrorKind::kSystem;
}

ErrorView to_view(const base::Error& error) {
  return {std::string(to_string(error.kind)), error.message, error.remedy};
}

base::Error to_error(const ErrorView& view) { return {error_kind_from(view.code), view.message, view.remedy, 0}; }

ExitCode exit_code_for(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return ExitCode::kUsage;
    case ErrorKind::kNotFound:
      return ExitCode::kNotFound;
    case ErrorKind::kPermission:
      return ExitCode::kPermission;
    default:
      return ExitCode::kFailure;
  }
}

}  // namespace mesh::api
