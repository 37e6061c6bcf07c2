// SPDX-License-Identifier: Apache-2.0
// What to ask Eureka next, and what its answers mean. Pure: questions and answers are values, time is passed in.
//
// Everything is read once, then what changed within the last three minutes (a delta), again and again: a server repeats
// itself, so a delta may be applied any number of times. A hash over the statuses of all instances, which comes along,
// tells whether something was missed; since it does not tell addresses apart, everything is read anew after some deltas
// anyway.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/random.hpp"
#include "discovery/eureka_model.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery {

class EurekaWatch {
 public:
  EurekaWatch(EurekaSettings settings, ServicePolicy policy, std::uint64_t seed);

  /// Everything is read anew, at once; what is known stays until it is.
  void restart(base::TimePoint now);

  struct Ask {
    bool delta = false;
    std::string url;
  };
  [[nodiscard]] Ask ask() const;
  /// When to ask that.
  [[nodiscard]] base::TimePoint due() const { return due_; }

  enum class Taken : std::uint8_t {
    kCurrent,  ///< What is known is what the server says.
    kUnsure,   ///< Everything has to be read, at once.
  };
  /// Error: this server is of no use now; see ask_another().
  base::Result<Taken> answered(const http::FetchResponse& response, base::TimePoint now);
  /// The next server is asked for everything, at once. False: since the last answer of use all were tried.
  bool ask_another(base::TimePoint now);

  /// What people should know, since the last call.
  std::vector<base::Error> take_reports();
  /// All services, if something about them changed since the last call.
  std::optional<std::vector<model::ServicePtr>> take_update();

 private:
  struct App {
    const EurekaRule* rule = nullptr;  ///< Null: nobody wants it, and only statuses are kept.
    bool named = false;                ///< A rule has its name: it stays without instances.
    std::map<std::string, EurekaInstance, std::less<>> instances;
    InstancesKept kept;
    std::vector<model::ServicePtr> mapped;
    std::vector<std::string> notes;
  };
  using Apps = std::map<std::string, App, std::less<>>;

  App& app_of(const std::string& name);
  void take_all(EurekaAnswer answer);
  /// False: something can't be applied.
  bool take_delta(EurekaAnswer answer);
  void settle(const std::string& name);
  [[nodiscard]] std::string hash() const;
  [[nodiscard]] base::Error refused(const http::FetchResponse& response) const;

  const EurekaSettings settings_;
  InstanceMapper mapper_;
  base::Random random_;
  Apps apps_;
  std::size_t server_ = 0;
  std::size_t failed_ = 0;  // servers, since the last answer of use
  bool read_all_ = true;
  unsigned deltas_ = 0;  // since everything was read
  base::TimePoint due_{};
  bool changed_ = true;
  std::vector<base::Error> reports_;
};

}  // namespace mesh::discovery
