// SPDX-License-Identifier: Apache-2.0
// What to ask Consul next, and what its answers mean. Pure: requests and answers are values, time is passed in.
//
// Few services: one blocking query for each, which Consul answers when something about that service changed. More than
// there may be connections: two blocking queries for all (the list of services, and the checks that don't pass) say
// when something changed, and services are read through a small pool of connections: at once those whose checks or
// nodes began or ceased to fail, and all of them, at a bounded pace, when something was registered.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/backoff.hpp"
#include "base/clock.hpp"
#include "base/random.hpp"
#include "discovery/consul_model.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery {

/// A bucket of two: two at once, then one per interval.
class TwoTokens {
 public:
  void take(base::TimePoint now, base::Duration interval);
  [[nodiscard]] base::TimePoint next() const { return next_; }  ///< When there is a token.

 private:
  base::TimePoint full_{};  // when both tokens are there
  base::TimePoint next_{};
};

/// How many connections the server lets us have: half as many after each refusal. Who shares its limit with us may go,
/// so they come back, a tenth of the setting after each quiet time; each refusal doubles that time.
class ConsulConnections {
 public:
  static constexpr unsigned kFewest = 4;
  static constexpr std::chrono::minutes kFirstRest{5};
  static constexpr std::chrono::minutes kLongestRest{160};

  explicit ConsulConnections(unsigned most) : most_(most), count_(most) {}

  [[nodiscard]] unsigned count() const { return count_; }
  void refused(base::TimePoint now);
  /// Time has passed; true: there are more than before.
  bool look(base::TimePoint now);
  /// When to look.
  [[nodiscard]] base::TimePoint due() const { return count_ < most_ ? grows_at_ : base::TimePoint::max(); }

 private:
  unsigned most_;
  unsigned count_;
  std::chrono::minutes rest_{0};
  base::TimePoint grows_at_{};
};

/// What the headers of an answer say.
struct ConsulHeaders {
  std::optional<std::uint64_t> index;
  bool known_leader = true;
  std::chrono::milliseconds last_contact{0};
  bool filtered = false;  ///< The token may not see everything.
};
ConsulHeaders read_consul_headers(const http::Headers& headers);

/// The index of one blocking query.
class ConsulQuery {
 public:
  enum class Change : std::uint8_t {
    kFirst,
    kMoved,  ///< Something changed, though perhaps not what was asked for.
    kNone,   ///< The wait was over.
  };
  /// Takes an answer, or says why it must not be used.
  base::Result<Change> take(const ConsulHeaders& headers, const ConsulSettings& settings, base::TimePoint now);
  /// The next question is a plain read.
  void forget() { index_ = 0; }

  [[nodiscard]] std::uint64_t index() const { return index_; }  ///< 0: none, a plain read.
  [[nodiscard]] base::TimePoint not_before() const { return index_ == 0 ? base::TimePoint{} : bucket_.next(); }

 private:
  std::uint64_t index_ = 0;
  TwoTokens bucket_;
};

class ConsulWatch {
 public:
  static constexpr std::size_t kPoolReads = 16;            ///< At one time, where services share connections.
  static constexpr unsigned kReadsPerSecond = 500;         ///< Of those for registrations, at most, over time.
  static constexpr std::chrono::minutes kReadAllEvery{5};  ///< Node addresses change without a sign.
  static constexpr unsigned kTriesOfContent = 3;           ///< Then a service that can't be read holds up no others.

  ConsulWatch(ConsulSettings settings, ConsulMapper mapper, std::uint64_t seed);
  ~ConsulWatch();

  /// Everything is read anew; what is known stays until it is.
  void restart();

  using AskId = std::uint64_t;
  struct Ask {
    AskId id;
    std::string target;                     ///< "/v1/health/service/orders?stale"
    std::chrono::milliseconds no_progress;  ///< Longest time without a byte.
  };
  struct Step {
    std::vector<AskId> cancel;  ///< First, to free their connections.
    std::vector<Ask> start;
  };
  Step step(base::TimePoint now);
  /// When the next step is due without an answer.
  [[nodiscard]] base::TimePoint wake_at() const;

  /// Error: nothing more can be read now; begin again with restart(), later.
  base::Result<void> answered(AskId id, const http::FetchResponse& response, base::TimePoint now);

  /// What people should know, since the last call.
  std::vector<base::Error> take_reports();
  /// All services, if something about them changed since the last call and all are known.
  std::optional<std::vector<model::ServicePtr>> take_update();
  /// If it is no more than that: services that stand where others with their frontends and names stood.
  std::vector<model::ServicePtr> take_exchanged();
  /// The newest answers say what the services are.
  [[nodiscard]] bool is_fresh() const { return unanswered_ == 0 && troubled_ == 0; }
  /// The first service's that is not as its newest answer says; there must be one unless is_fresh().
  [[nodiscard]] base::Error trouble() const;

  [[nodiscard]] bool shares_connections() const { return shared_; }
  [[nodiscard]] std::size_t watched() const { return services_.size(); }

 private:
  enum class Kind : std::uint8_t { kCatalog, kChecks, kService };
  struct Watched;
  struct Signal {  // a query that concerns all services
    ConsulQuery query;
    AskId ask = 0;  // in flight
    bool answered = false;
  };

  [[nodiscard]] bool all_known() const;
  [[nodiscard]] bool needs_catalog() const { return has_patterns_ || shared_; }
  [[nodiscard]] std::string target(std::string path, std::uint64_t index, std::string_view more) const;
  [[nodiscard]] Ask make_ask(Kind kind, std::string name, std::string path, std::uint64_t index, std::string_view more);
  void ask_signal(Kind kind, Signal& signal, base::TimePoint now, Step& step);
  void ask_services(base::TimePoint now, Step& step);
  base::Result<void> take_catalog(const http::FetchResponse& response, bool filtered, ConsulQuery::Change change);
  base::Result<void> take_checks(const http::FetchResponse& response, base::TimePoint now);
  void take_service(const std::string& name, Watched& watched, const http::FetchResponse& response, bool filtered,
                    base::TimePoint now);
  void watch_hidden();
  bool keep_last_run(const std::string& name, Watched& watched);
  void keep_hidden(Watched& watched, std::vector<ConsulInstance>& instances, const std::string& name);
  void map(const std::string& name, Watched& watched);
  void watch(const std::string& name, const ConsulRule& rule);
  void forget(const std::string& name);
  void queue(const std::string& name, Watched& watched, bool urgent);
  void read_all(base::TimePoint now);
  void set_trouble(Watched& watched, std::optional<base::Error> error);
  void set_mode();
  [[nodiscard]] base::Error refused(const http::FetchResponse& response, Kind kind, std::string_view name,
                                    base::TimePoint now);

  const ConsulSettings settings_;
  ConsulMapper mapper_;
  base::Random random_;
  const bool has_patterns_;
  ConsulConnections connections_;
  bool shared_ = false;
  Signal catalog_;
  Signal checks_;
  ConsulFailing failing_;
  std::map<std::string, std::unique_ptr<Watched>, std::less<>> services_;
  std::unordered_map<AskId, std::pair<Kind, std::string>> asks_;
  AskId next_ask_ = 1;
  std::vector<AskId> cancel_;
  std::deque<std::string> urgent_;
  std::deque<std::string> routine_;
  std::multimap<base::TimePoint, std::string> later_;
  std::size_t reading_ = 0;  // services in flight
  std::size_t unanswered_ = 0;
  std::size_t troubled_ = 0;
  bool changed_ = true;  // more than `exchanged_` says
  std::vector<model::ServicePtr> exchanged_;
  bool read_all_wanted_ = false;
  TwoTokens read_all_bucket_;
  base::TimePoint read_all_at_{};  // the next one that nothing asked for
  std::vector<base::Error> reports_;
};

}  // namespace mesh::discovery
