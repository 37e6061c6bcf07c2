// SPDX-License-Identifier: Apache-2.0
// What an issuer answers (RFC 8555, 7.1; RFC 9773, 4.2), as values. It comes from the network: whatever is not as it
// has to be is an error, and text that is shown is cut and has no control characters.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::acme {

/// An answer over HTTP.
struct Answer {
  unsigned status = 0;
  std::string body;
  std::string nonce;     ///< Replay-Nonce; empty: none came, as with the next one.
  std::string location;  ///< Location
  std::optional<std::chrono::seconds> retry_after;
  [[nodiscard]] bool ok() const { return status >= 200 && status < 300; }
};

struct Directory {
  std::string new_nonce;
  std::string new_account;
  std::string new_order;
  std::string renewal_info;  ///< Empty: the issuer offers none.
  std::string terms;         ///< Where people read them; may be empty.
  bool binding_required = false;
};

/// Why something was refused.
struct Problem {
  std::string type;    ///< Without its prefix: "badNonce", "rateLimited"; empty: none was said.
  std::string detail;  ///< With those of its parts.
};

enum class Status : std::uint8_t { kPending, kReady, kProcessing, kValid, kInvalid };

struct Order {
  Status status = Status::kPending;
  std::vector<std::string> authorizations;
  std::string finalize;
  std::string certificate;  ///< Set if valid.
  std::optional<Problem> error;
};

struct OfferedChallenge {
  std::string type;  ///< "http-01"
  std::string url;
  std::string token;
  Status status = Status::kPending;
  std::optional<Problem> error;
};

struct Authorization {
  Status status = Status::kPending;  ///< Deactivated, expired and revoked ones are invalid.
  std::string name;
  std::vector<OfferedChallenge> challenges;
};

/// When a certificate had better be renewed.
struct Window {
  base::WallTime start;
  base::WallTime end;
  bool operator==(const Window&) const = default;
};

inline constexpr std::size_t kAnswerBytesMax = 256 * 1024;
inline constexpr std::size_t kTextMax = 300;  ///< Of an issuer's words that are shown.
inline constexpr std::size_t kUrlMax = 2048;
inline constexpr std::size_t kTokenMax = 512;

base::Result<Directory> parse_directory(std::string_view body);
base::Result<Order> parse_order(std::string_view body);
base::Result<Authorization> parse_authorization(std::string_view body);
base::Result<Window> parse_renewal_info(std::string_view body);
/// Never fails: a proxy on the way answers something else.
Problem parse_problem(std::string_view body);

/// A URL of the issuer; https only, since what is signed is not secret.
bool is_good_url(std::string_view url);

}  // namespace mesh::acme
