// SPDX-License-Identifier: Apache-2.0
// What DNS said, when it has to be asked again, and the services that follow. Pure: answers and times come in,
// questions and services go out.
//
// Each question (a name and a type) is known by itself, so that one that can't be answered costs nothing but its own
// freshness: records stay until there are others, or until "there is none" was said `negative_confirmations` times in a
// row. Records are asked for again when their TTL is over, which is at least `ttl_floor` and at most `ttl_cap`, up to a
// tenth sooner or later; a failure is asked again after ttl_floor, doubling up to kRetryCap.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/random.hpp"
#include "discovery/dns_answer.hpp"
#include "discovery/dns_keys.hpp"
#include "discovery/service_keys.hpp"

namespace mesh::discovery {

class DnsBook {
 public:
  static constexpr std::chrono::seconds kRetryCap{60};

  /// `known`: services of before, for what can't be answered at first.
  DnsBook(DnsSettings settings, ServicePolicy policy, std::vector<model::ServicePtr> known, std::uint64_t seed);

  /// What has to be asked now; each is told once, until its answer or failure came or forget_asked().
  std::vector<DnsQuestion> take_due(base::TimePoint now, std::size_t limit);
  /// When something has to be asked next, of what is not being asked.
  [[nodiscard]] base::TimePoint next_due() const;
  void answer(const DnsQuestion& question, const DnsAnswer& answer, base::TimePoint now);
  void fail(const DnsQuestion& question, base::TimePoint now);
  /// What is being asked will not be answered: it is due again.
  void forget_asked();
  /// Other resolvers may say other things: everything is due.
  void ask_all_again(base::TimePoint now);

  /// All is known, or was tried at least once, so that what is left out of services() is not there.
  [[nodiscard]] bool complete() const;
  /// Any question ever.
  [[nodiscard]] bool answered() const;
  /// Something that services() is made of changed since the last call.
  [[nodiscard]] bool changed() const { return changed_; }
  std::vector<model::Service> services();
  /// Questions whose last try failed.
  [[nodiscard]] std::size_t failing() const;
  [[nodiscard]] std::size_t questions() const { return questions_.size(); }

 private:
  struct Known {
    std::vector<DnsRecord> records;
    bool answered = false;  ///< Ever, with records or a confirmed "none".
    bool tried = false;
    bool asked = false;  ///< Now.
    unsigned negatives = 0;
    unsigned failures = 0;
    base::TimePoint due{};
  };
  static std::vector<DnsType> address_types(const DnsService& service);
  void update_questions();
  [[nodiscard]] base::Duration jittered(base::Duration time);
  void hold(Known& known, std::uint32_t ttl_s, base::TimePoint now);
  [[nodiscard]] const Known* find(const DnsQuestion& question) const;
  void add_addresses(const std::string& host, DnsType type, const model::Endpoint& like, model::Service& service) const;
  bool fill(const DnsService& spec, DnsType type, model::Service& service) const;
  bool fill_from_srv(const std::vector<DnsRecord>& records, DnsType type, model::Service& service) const;

  const DnsSettings settings_;
  const ServicePolicy policy_;
  const std::vector<model::ServicePtr> known_;
  base::Random random_;
  std::map<DnsQuestion, Known> questions_;
  bool changed_ = true;
};

}  // namespace mesh::discovery
